# SPDX-License-Identifier: Apache-2.0
"""A server of S3 for tests: it checks each signature by itself, keeps objects in memory, and is as
badly behaved as a test wants."""

import base64
import calendar
import email.utils
import hashlib
import hmac
import http.server
import re
import socket
import struct
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

REGION = "us-east-1"
UNSIGNED = "UNSIGNED-PAYLOAD"


def keyed(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


def signature(secret, region, moment, canonical):
    """Of a canonical request, as "Signature Version 4" defines it."""
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", moment, scope,
                      hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{secret}".encode()
    for part in (moment[:8], region, "s3", "aws4_request"):
        key = keyed(key, part)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def etag_of(data):
    return hashlib.md5(data).hexdigest()


class Refused(Exception):
    def __init__(self, status, code, message, **headers):
        super().__init__(code)
        self.status, self.code, self.message, self.headers = status, code, message, headers


class Object:
    def __init__(self, data, sha256="", etag=None):
        self.data, self.sha256, self.etag = data, sha256, etag or etag_of(data)
        self.modified = time.time()


class S3:
    """`keys`: id -> (secret, token or None). `fault(method, key, query)` names what goes wrong with
    a request: reset, truncate, wrong, delay, late, or an (HTTP status, code, message)."""

    def __init__(self, *buckets, keys=None):
        self.buckets = {name: {} for name in buckets}
        self.keys = keys or {"AKTEST": ("secret/of+test", None)}
        self.uploads, self.requests, self.problems = {}, [], []
        self.fault = lambda method, key, query: None
        self.skew = 0  # seconds that this server's clock is ahead
        self.lock = threading.Lock()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.authority = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.authority}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def environment(self, name=None):
        """What a daemon is started with to be this client."""
        name = name or next(iter(self.keys))
        secret, token = self.keys[name]
        return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": secret,
                **({"AWS_SESSION_TOKEN": token} if token else {})}

    def count(self, method, part=""):
        return sum(1 for one in self.requests if one[0] == method and part in one[1])

    # ---- who asks ----

    def check(self, method, path, query, headers, body):
        """Refuses a request whose signature is not right."""
        if "X-Amz-Signature" in query:
            self.check_url(method, path, query, headers)
            return
        found = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request,"
                             r"\s*SignedHeaders=([^,]+),\s*Signature=([0-9a-f]{64})",
                             headers.get("Authorization", ""))
        if not found:
            raise Refused(403, "AccessDenied", "Anonymous access is not allowed")
        name, _, region, signed, given = found.groups()
        moment = headers["x-amz-date"]
        self.check_key(name, headers.get("x-amz-security-token"))
        self.check_time(moment)
        canonical = "\n".join(
            [method, path, canonical_query(query),
             *(f"{one}:{headers[one].strip()}" for one in signed.split(";")), "", signed,
             headers["x-amz-content-sha256"]])
        assert "host" in signed and "x-amz-content-sha256" in signed and "x-amz-date" in signed
        for one in headers:
            assert not one.lower().startswith("x-amz-") or one.lower() in signed.split(";"), one
        if region != REGION:
            raise Refused(400, "AuthorizationHeaderMalformed", f"expecting '{REGION}'")
        if signature(self.keys[name][0], region, moment, canonical) != given:
            raise Refused(403, "SignatureDoesNotMatch",
                          "The request signature we calculated does not match")
        if hashlib.sha256(body).hexdigest() != headers["x-amz-content-sha256"]:
            raise Refused(400, "XAmzContentSHA256Mismatch", "The body is another")

    def check_url(self, method, path, query, headers):
        given = query["X-Amz-Signature"]
        name, day, region = query["X-Amz-Credential"].split("/")[:3]
        moment = query["X-Amz-Date"]
        self.check_key(name, query.get("X-Amz-Security-Token"))
        rest = {key: value for key, value in query.items() if key != "X-Amz-Signature"}
        canonical = "\n".join([method, path, canonical_query(rest), f"host:{headers['Host']}", "",
                               "host", UNSIGNED])
        if signature(self.keys[name][0], region, moment, canonical) != given:
            raise Refused(403, "SignatureDoesNotMatch", "The URL's signature is wrong")
        if seconds_of(moment) + int(query["X-Amz-Expires"]) < time.time():
            raise Refused(403, "AccessDenied", "Request has expired")

    def check_key(self, name, token):
        if name not in self.keys:
            raise Refused(403, "InvalidAccessKeyId",
                          "The AWS Access Key Id you provided does not exist in our records.")
        if self.keys[name][1] == "expired":
            raise Refused(400, "ExpiredToken", "The provided token has expired.")
        if token != self.keys[name][1]:
            raise Refused(400, "InvalidToken", "The provided token is malformed")

    def check_time(self, moment):
        if abs(time.time() + self.skew - seconds_of(moment)) > 900:
            raise Refused(403, "RequestTimeTooSkewed",
                          "The difference between the request time and the current time is too "
                          "large.")

    # ---- what is asked ----

    def answer(self, method, bucket, key, query, headers, body):
        """(status, headers, body)"""
        if bucket not in self.buckets:
            raise Refused(404, "NoSuchBucket", "The specified bucket does not exist")
        objects = self.buckets[bucket]
        if method == "POST" and "uploads" in query:
            return self.begin(key, headers)
        if method == "PUT" and "uploadId" in query:
            return self.part(key, query, headers, body)
        if method == "POST" and "uploadId" in query:
            return self.end(objects, key, query, body)
        if method == "DELETE" and "uploadId" in query:
            self.uploads.pop(query["uploadId"], None)
            return 204, {}, b""
        if method == "GET" and not key:
            return self.listing(objects, query)
        if method == "PUT":
            check_sum(headers, body)
            objects[key] = Object(body, headers.get("x-amz-meta-sha256", ""))
            return 200, {"ETag": f'"{objects[key].etag}"'}, b""
        if method == "DELETE":
            objects.pop(key, None)
            return 204, {}, b""
        return self.read(objects, key, headers)

    def read(self, objects, key, headers):
        if key not in objects:
            raise Refused(404, "NoSuchKey", "The specified key does not exist.")
        found = objects[key]
        if headers.get("If-Match", f'"{found.etag}"') != f'"{found.etag}"':
            raise Refused(412, "PreconditionFailed", "At least one of the conditions failed")
        said = {"ETag": f'"{found.etag}"', "Accept-Ranges": "bytes",
                "Last_Modified": email.utils.formatdate(found.modified, usegmt=True)}
        if found.sha256:
            said["x-amz-meta-sha256"] = found.sha256
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("Range", ""))
        if not asked:
            return 200, said, found.data
        first = int(asked[1])
        last = min(int(asked[2] or len(found.data)), len(found.data) - 1)
        if first >= len(found.data):
            raise Refused(416, "InvalidRange", "The requested range is not satisfiable")
        said["Content-Range"] = f"bytes {first}-{last}/{len(found.data)}"
        return 206, said, found.data[first:last + 1]

    def begin(self, key, headers):
        name = f"upload-{len(self.uploads)}+{key.count('/')}/x=="
        self.uploads[name] = {"key": key, "parts": {}, "sha256": headers["x-amz-meta-sha256"]}
        text = f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId>"
        return 200, {}, document(text + "</InitiateMultipartUploadResult>")

    def part(self, key, query, headers, body):
        check_sum(headers, body)
        upload = self.uploads.get(query["uploadId"])
        if upload is None or upload["key"] != key:
            raise Refused(404, "NoSuchUpload", "The specified upload does not exist.")
        upload["parts"][int(query["partNumber"])] = body
        return 200, {"ETag": f'"{etag_of(body)}"'}, b""

    def end(self, objects, key, query, body):
        upload = self.uploads.get(query["uploadId"])
        if upload is None or upload["key"] != key:
            raise Refused(404, "NoSuchUpload", "The specified upload does not exist.")
        named = re.findall(rb"<ChecksumSHA256>([^<]+)</ChecksumSHA256><ETag>&quot;([0-9a-f]+)&quot;"
                           rb"</ETag><PartNumber>(\d+)</PartNumber>", body)
        parts = [upload["parts"].get(int(number)) for _, _, number in named]
        good = [part is not None and etag_of(part).encode() == etag and
                base64.b64encode(hashlib.sha256(part).digest()) == checksum
                for part, (checksum, etag, _) in zip(parts, named)]
        if not parts or not all(good):
            raise Refused(400, "InvalidPart", "One or more of the specified parts is not there.")
        if any(len(part) < 5 << 20 for part in parts[:-1]):
            raise Refused(400, "EntityTooSmall", "Your proposed upload is too small")
        sums = hashlib.md5(b"".join(hashlib.md5(part).digest() for part in parts)).hexdigest()
        objects[key] = Object(b"".join(parts), upload["sha256"], f"{sums}-{len(parts)}")
        del self.uploads[query["uploadId"]]
        text = f"<CompleteMultipartUploadResult><ETag>&quot;{objects[key].etag}&quot;</ETag>"
        return 200, {}, document(text + "</CompleteMultipartUploadResult>")

    def listing(self, objects, query):
        prefix = query.get("prefix", "")
        if "uploads" in query:
            rows = [f"<Upload><Key>{escape(one['key'])}</Key><UploadId>{name}</UploadId></Upload>"
                    for name, one in self.uploads.items() if one["key"].startswith(prefix)]
            return 200, {}, document(f"<ListMultipartUploadsResult>{''.join(rows)}"
                                     "</ListMultipartUploadsResult>")
        keys = sorted(key for key in objects if key.startswith(prefix))
        first = int(query.get("continuation-token", "0"))
        page = keys[first:first + 2]
        rows = [f"<Contents><Key>{escape(key)}</Key><ETag>&quot;{objects[key].etag}&quot;</ETag>"
                f"<Size>{len(objects[key].data)}</Size></Contents>" for key in page]
        cut = first + 2 < len(keys)
        more = f"<NextContinuationToken>{first + 2}</NextContinuationToken>" if cut else ""
        return 200, {}, document(f"<ListBucketResult><IsTruncated>{str(cut).lower()}</IsTruncated>"
                                 f"{more}{''.join(rows)}</ListBucketResult>")


def document(text):
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode()


def check_sum(headers, body):
    given = headers.get("x-amz-checksum-sha256")
    if given is not None and given != base64.b64encode(hashlib.sha256(body).digest()).decode():
        raise Refused(400, "BadDigest", "The checksum does not match what was received.")


def seconds_of(moment):
    return calendar.timegm(time.strptime(moment, "%Y%m%dT%H%M%SZ"))


def canonical_query(query):
    encoded = sorted((urllib.parse.quote(key, safe="-_.~"), urllib.parse.quote(value, safe="-_.~"))
                     for key, value in query.items())
    return "&".join(f"{key}={value}" for key, value in encoded)


def handler_of(server):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        log_message = staticmethod(lambda *_: None)

        def one(self):
            path, _, raw = self.path.partition("?")
            query = dict(urllib.parse.parse_qsl(raw, keep_blank_values=True))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            bucket, _, key = urllib.parse.unquote(path[1:]).partition("/")
            with server.lock:
                server.requests.append((self.command, key, query, dict(self.headers)))
                fault = server.fault(self.command, key, query)
            if fault == "reset":
                self.reset()
                return
            if fault == "delay":
                time.sleep(0.2)
            try:
                if isinstance(fault, tuple):
                    raise Refused(*fault[:3], **(fault[3] if len(fault) > 3 else {}))
                with server.lock:
                    server.check(self.command, path, query, self.headers, body)
                    status, headers, data = server.answer(self.command, bucket, key, query,
                                                          self.headers, body)
                if fault == "late":  # a failure behind a 200, as of CompleteMultipartUpload
                    raise Refused(200, "InternalError", "We encountered an internal error.")
            except Refused as why:
                status, headers = why.status, why.headers
                data = document(f"<Error><Code>{why.code}</Code><Message>{escape(why.message)}"
                                "</Message></Error>")
            except Exception as why:  # a fault of the test or of the client: shown by the test
                server.problems.append(repr(why))
                status, headers, data = 500, {}, b""
            if fault == "wrong" and self.command == "GET" and data:
                data = data[:-1] + bytes([data[-1] ^ 1])
            self.send_answer(status, headers, data, fault == "truncate")

        def send_answer(self, status, headers, data, cut):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            if status != 204:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD" and status != 204:
                self.wfile.write(data[:len(data) // 2] if cut else data)
            if cut:
                self.close_connection = True

        def date_time_string(self, timestamp=None):
            return super().date_time_string((timestamp or time.time()) + server.skew)

        def reset(self):
            """RST instead of an answer."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = one

    return Handler
