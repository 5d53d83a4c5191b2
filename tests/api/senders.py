# SPDX-License-Identifier: Apache-2.0
"""How registries sign what they send; written from their documents, not from the daemon."""

import base64
import hashlib
import hmac
import json
import time
import uuid

SECRET = "a secret of thirty-two characters"


def digest(secret, signed):
    return hmac.new(secret.encode(), signed, hashlib.sha256)


def body_of(payload):
    return payload if isinstance(payload, bytes) else json.dumps(payload).encode()


def mlflow(payload, secret=SECRET, delivery=None, timestamp=None):
    body = body_of(payload)
    delivery = delivery or str(uuid.uuid4())
    timestamp = str(int(time.time()) if timestamp is None else timestamp)
    made = digest(secret, f"{delivery}.{timestamp}.".encode() + body).digest()
    return body, {"X-MLflow-Signature": "v1," + base64.b64encode(made).decode(),
                  "X-MLflow-Delivery-Id": delivery, "X-MLflow-Timestamp": timestamp,
                  "Content-Type": "application/json"}


def huggingface(payload, secret=SECRET):
    return body_of(payload), {"X-Webhook-Secret": secret}


def wandb(payload, secret=SECRET, encoding="hex"):
    body = body_of(payload)
    made = digest(secret, body)
    text = made.hexdigest() if encoding == "hex" else base64.b64encode(made.digest()).decode()
    return body, {"X-Wandb-Signature": text}


def github(payload, secret=SECRET, event="release", delivery=None):
    body = body_of(payload)
    return body, {"X-Hub-Signature-256": "sha256=" + digest(secret, body).hexdigest(),
                  "X-GitHub-Event": event, "X-GitHub-Delivery": delivery or str(uuid.uuid4())}


def generic(payload, secret=SECRET, delivery=None, timestamp=None):
    """As the example docs/hooks/generic.json has it."""
    body, headers = mlflow(payload, secret, delivery, timestamp)
    return body, {"webhook-signature": headers["X-MLflow-Signature"],
                  "webhook-id": headers["X-MLflow-Delivery-Id"],
                  "webhook-timestamp": headers["X-MLflow-Timestamp"]}


ALIAS = {"entity": "model_version_alias", "action": "created",
         "timestamp": "2026-01-02T03:04:05+00:00",
         "data": {"name": "ocr-latin", "alias": "champion", "version": "3"}}
PUSH = {"event": {"action": "update", "scope": "repo.content"},
        "repo": {"type": "model", "name": "org/tuned", "id": "6366c000a2abcdf2fd69a080",
                 "private": False, "headSha": "c" * 40},
        "updatedRefs": [{"ref": "refs/heads/main", "oldSha": "b" * 40, "newSha": "c" * 40}],
        "webhook": {"id": "6390e855e30d9209411de93b", "version": 3}}
AUTOMATION = {"event": "ADD_ARTIFACT_ALIAS", "collection": "latin-finetune", "version": "v4",
              "alias": "production"}
RELEASE = {"action": "published", "release": {"tag_name": "v1.2", "prerelease": False}}
FINISHED = {"type": "training.finished", "data": {"task": "latin 2", "model": "tasks/latin"}}
