# The same key and body may be sent again: one message results.
curl --fail-with-body --max-time 10 --retry 5 --retry-connrefused --retry-max-time 60 \
  "$MEXAR_URL/api/v1/messages" \
  -H "Authorization: Bearer $MEXAR_KEY" \
  -H "Idempotency-Key: order-4711-sms" \
  -H "Content-Type: application/json" \
  -d '{"to": "+380671234567", "text": "Your transfer of 100.00 EUR has arrived.", "reference": "order-4711"}'
