"""As much of a W&B server as ``wandb sync`` needs, and runs to upload to it."""

import gzip
import json
import os
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from saliency_vae.runtime.loggers import wandb_logger

Runs = dict[str, dict[int, dict[str, Any]]]  # history of each run, line by line


def log_offline(directory: str, steps: Iterable[int], is_killed: bool) -> None:
    """Log some steps as one part of an offline run, which ends by itself or is killed."""
    logger = wandb_logger(directory, offline=True)
    for step in steps:
        logger.log_metrics({"loss": float(step)}, step)
    if is_killed:
        time.sleep(3)  # W&B's own process writes each second
        os.kill(os.getpid(), signal.SIGKILL)
    logger.experiment.finish()


def _bucket(name: str, history: dict[int, dict[str, Any]]) -> dict[str, Any]:
    tail = history[max(history)] if history else {}
    project = {"id": "1", "name": "p", "entity": {"id": "1", "name": "e"}}
    return {
        "id": name,
        "name": name,
        "displayName": name,
        "config": "{}",
        "wandbConfig": '{"t": 1}',
        "summaryMetrics": "{}",
        "tags": [],
        "historyLineCount": len(history),
        "eventsLineCount": 0,
        "logLineCount": 0,
        "historyTail": json.dumps([json.dumps(tail)]),
        "eventsTail": '["{}"]',
        "project": project,
    }


def _answer(runs: Runs, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
    name = variables.get("name", "")
    if operation == "RunResumeStatus":
        known = _bucket(name, runs[name]) if name in runs else None
        return {"model": {"id": "1", "name": "p", "entity": {"name": "e"}, "bucket": known}}
    if operation == "UpsertBucket":
        return {"upsertBucket": {"bucket": _bucket(name, runs[name]), "inserted": True}}
    if operation == "CreateRunFiles":
        return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": []}}
    viewer = {"id": "1", "entity": "e", "username": "u", "flags": "{}", "teams": {"edges": []}}
    return {"viewer": viewer, "serverInfo": {"features": []}}


@contextmanager
def server() -> Iterator[tuple[str, Runs]]:
    """Serve on this machine; yield the address and what was uploaded."""
    runs: Runs = defaultdict(dict)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            sent = json.loads(body)
            if self.path.endswith("/file_stream"):
                history = sent.get("files", {}).get("wandb-history.jsonl")
                for index, line in enumerate(history["content"] if history else []):
                    runs[self.path.split("/")[-2]][history["offset"] + index] = json.loads(line)
                return self.reply({})
            variables = sent.get("variables") or {}
            return self.reply({"data": _answer(runs, sent.get("operationName"), variables)})

        def reply(self, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Be silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}", runs
        finally:
            serving.shutdown()
            thread.join()
