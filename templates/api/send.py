import os
import time

import requests

URL = os.environ["MEXAR_URL"] + "/api/v1/messages"
HEADERS = {"Authorization": f"Bearer {os.environ['MEXAR_KEY']}"}
PASSING = {409, 429, 500, 502, 503, 504}  # statuses that another try may help


def send(key: str, message: dict) -> dict:
    """One message results however often this is called with the same key and message."""
    for pause in (1, 2, 4, 8):
        try:
            answer = requests.post(URL, json=message, headers={**HEADERS, "Idempotency-Key": key}, timeout=10)
        except (requests.ConnectionError, requests.Timeout):
            time.sleep(pause)
            continue
        if answer.status_code not in PASSING:
            break
        wait = int(answer.headers.get("Retry-After", pause))
        if wait > 60:  # the quota of the day is used up
            break
        time.sleep(wait)
    else:
        raise RuntimeError("the service is away; call again later with the same key")
    if answer.status_code != 202:
        raise ValueError(answer.json())  # a problem: its `code` is stable
    return answer.json()


message = {"to": "+380671234567", "text": "Your transfer of 100.00 EUR has arrived.", "reference": "order-4711"}
print(send("order-4711-sms", message)["id"])
