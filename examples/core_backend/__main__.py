"""python -m examples.core_backend {send,listen,serve,status}: see the README beside this file."""

import argparse
import json
import os
import signal
import threading

from examples.core_backend import topics, webhooks
from examples.core_backend.store import Store


def main() -> None:
    options = arguments()
    store = Store(options.store)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    if options.do == "send":
        store.want(options.reference, options.to, options.text)
        print(topics.produce(store, options.kafka, options.commands, store.wanted()), "acknowledged")
    elif options.do == "listen":
        topics.listen(store, options.kafka, options.events, options.group, lambda: not stopping.is_set())
    elif options.do == "serve":
        server = webhooks.server(store, options.port, os.environ["WEBHOOK_SECRET"])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
        stopping.wait()
        server.shutdown()
    else:
        print(json.dumps(store.statuses()))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.core_backend", description=__doc__)
    parser.add_argument("--store", default="core_backend.sqlite", help="the file of its database")
    parser.add_argument("--kafka", default="127.0.0.1:19092", help="the broker of `make up KAFKA=1`")
    parser.add_argument("--commands", default="messaging.commands")
    parser.add_argument("--events", default="messaging.events")
    parser.add_argument("--group", default="core-backend")
    kinds = parser.add_subparsers(dest="do", required=True)
    send = kinds.add_parser("send", help="store a command, and produce all that are not acknowledged")
    send.add_argument("reference")
    send.add_argument("to")
    send.add_argument("text")
    kinds.add_parser("listen", help="take events from the topic")
    serve = kinds.add_parser("serve", help="take events by webhook; WEBHOOK_SECRET=whsec_...")
    serve.add_argument("--port", type=int, default=8090)
    kinds.add_parser("status", help="what became of each message")
    return parser.parse_args()


if __name__ == "__main__":
    main()
