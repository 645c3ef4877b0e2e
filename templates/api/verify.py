import os

import requests

service = f"{os.environ['MEXAR_URL']}/api/v1/verifications"
key = {"Authorization": f"Bearer {os.environ['MEXAR_KEY']}"}  # with the scope otp

started = requests.post(service, json={"to": "+380671234567", "purpose": "login"}, headers=key, timeout=10)
started.raise_for_status()
check = {"code": input("The code from the SMS: "), "purpose": "login"}
checked = requests.post(f"{service}/{started.json()['reference']}/check", json=check, headers=key, timeout=10)
checked.raise_for_status()
print("verified" if checked.json()["valid"] else checked.json())
