# MEXAR_URL and MEXAR_KEY: the address of this service and an API key with the scope otp. $1: the number.
verification=$(curl --fail-with-body --silent --show-error "$MEXAR_URL/api/v1/verifications" \
  --header "Authorization: Bearer $MEXAR_KEY" \
  --header "Content-Type: application/json" \
  --data "{\"to\": \"$1\", \"purpose\": \"login\"}")
reference=$(printf %s "$verification" | sed 's/.*"reference":"\([^"]*\)".*/\1/')

read -r code
curl --fail-with-body --silent --show-error "$MEXAR_URL/api/v1/verifications/$reference/check" \
  --header "Authorization: Bearer $MEXAR_KEY" \
  --header "Content-Type: application/json" \
  --data "{\"code\": \"$code\", \"purpose\": \"login\"}"
