# SPDX-License-Identifier: Apache-2.0
"""Requests that RFC 9112 forbids, by class: (name, bytes). Behind each stands a second request that
would be answered if the first one's framing were believed."""

SECOND = b"GET /v1/version HTTP/1.1\r\nHost: localhost\r\n\r\n"
CONTROLS = [bytes([code]) for code in (*range(9), 11, 12, *range(14, 32), 127)]
BLANKS = (b" ", b"\t", b"  ", b" \t")


def get(*fields, line=b"GET /livez HTTP/1.1", host=b"Host: localhost"):
    return b"\r\n".join((line, *([host] if host else []), *fields, b"", b""))


def post(*fields, body=b""):
    return get(b"Content-Type: application/json", *fields, line=b"POST /v1/jobs HTTP/1.1") + body


def request_lines():
    for method in (b"", b"G ET", b"GE\tT", b"G(T", b"G\"T", b"GET:", b"G/T", b"G@T", b"{GET}",
                   b"\xe9",
                   b"GET\x00", b"[GET]", b"G,T", b"G;T", b"G=T", b"G?T", b"G\\T", b"<GET>"):
        yield get(line=method + b" /livez HTTP/1.1")
    for version in (b"", b"HTTP", b"HTTP/", b"HTTP/1", b"HTTP/1.", b"HTTP/.1", b"HTTP/1.1.1",
                    b"http/1.1",
                    b"HTTP/1,1", b"HTTP/11", b"HTTP/1.10", b"HTTP/01.1", b"HTTP /1.1", b"HTTP/ 1.1",
                    b"HTTP/-1.1", b"HTTP/1.x", b"HTTP/0x1.1", b"HTTPS/1.1", b"HTTP/1.1 ",
                    b"HTTP/1.1\t",
                    b"HTTP/1.1 x", b"Http/1.1", b"RTSP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.2",
                    b"HTTP/3.0", b"HTTP/9.9"):
        yield get(line=b"GET /livez " + version)
    for blank in (b"  ", b"\t", b" \t", b"\x0b", b"\x0c", b"\xa0", b"   "):
        yield get(line=b"GET" + blank + b"/livez HTTP/1.1")
        yield get(line=b"GET /livez" + blank + b"HTTP/1.1")
    for blank in BLANKS:
        yield get(line=blank + b"GET /livez HTTP/1.1")
    for target in (b"livez", b"http://localhost/livez", b"//livez", b"*", b"localhost:80",
                   b"/livez#x",
                   b"/li\\vez", b"/livez?a=%00", b"/%2e/livez", b"/./livez", b"/../livez",
                   b"/livez/",
                   b"/l\xc3\xa9", b"/livez%", b"/livez%2", b"/livez%zz", b"/a%2fb", b"/a%5Cb",
                   b"/%00",
                   b"/\"", b"/li vez", b"?", b"/livez?a=1&a=2", b"/%ff", b"/%c0%af"):
        yield get(line=b"GET " + target + b" HTTP/1.1")
    for control in CONTROLS:
        yield get(line=b"GET /livez" + control + b" HTTP/1.1")
        yield get(line=b"GET" + control + b" /livez HTTP/1.1")
    yield b"\r\n\r\n" + get()
    yield b"\n" + get()
    yield b"\r" + get()


def fields():
    for control in CONTROLS:
        yield get(b"X-A: a" + control + b"b")
        yield get(b"X-A" + control + b": a")
        yield get(host=b"Host: localhost" + control)
        yield get(b"Origin: http://localhost" + control)
        yield post(b"Content-Length: 4" + control, body=b"{}{}")
        yield post(b"Transfer-Encoding: chunked" + control, body=b"0\r\n\r\n")
    for name in (b"", b" ", b"X A", b"X(A)", b"X\"A", b"X/A", b"X[A]", b"X{A}", b"X<A>", b"X@A",
                 b"X\\A",
                 b"X,A", b"X;A", b"X=A", b"X?A", b"X\xe9", b"Host ", b"Content-Length ", b"X-A\t",
                 b"Transfer-Encoding "):
        yield get(name + b": 1")
    for line in (b"X-A", b"no colon here", b":", b": 1", b" : 1", b"Content-Length", b"\xff"):
        yield get(line)
    for blank in BLANKS:
        yield get(b"X-A: 1", blank + b"folded: 2")
        yield post(b"Transfer-Encoding: chun", blank + b"ked", body=b"0\r\n\r\n")
        yield post(b"Transfer-Encoding:", blank + b"chunked", body=b"0\r\n\r\n")
        yield post(b"Content-Length:", blank + b"4", body=b"{}{}")
        yield get(blank + b"X-A: first")
        yield post(b"Content-Length" + blank + b": 4", body=b"{}{}")
        yield post(b"Transfer-Encoding" + blank + b": chunked", body=b"0\r\n\r\n")
        yield get(b"Host" + blank + b": localhost", host=None)
    for name in (b"Authorization", b"Content-Type", b"Range", b"If-Range", b"Origin", b"Expect",
                 b"Idempotency-Key", b"traceparent", b"Content-Range"):
        yield get(name + b": a", name.lower() + b": a")
    for value in (b"clo se;", b"\"close\"", b"close;x", b"a(b", b"keep-alive, @"):
        yield get(b"Connection: " + value)
    for value in (b"101-continue", b"100-continue, x", b"x", b"100 -continue"):
        yield post(b"Expect: " + value, b"Content-Length: 4", body=b"{}{}")


def hosts():
    yield get(host=None)
    yield get(host=None, line=b"GET /livez HTTP/1.0")
    yield get(b"Host: localhost")
    yield get(b"host: localhost")
    yield get(b"HOST: evil.example")
    for value in (b"", b"evil.example", b"localhost, evil.example", b"localhost evil.example",
                  b"user@localhost", b"http://localhost", b"localhost/", b"localhost:x",
                  b"localhost:",
                  b"localhost:99999", b"[::1", b"localhost.evil.example", b"127.0.0.1.evil",
                  b"\xe9",
                  b"localhost\\evil", b"localhost?x", b"localhost#x", b"\"localhost\"",
                  b"<localhost>",
                  b"localhost:80:80", b"0.0.0.0", b"[::1]x", b"localhost:-1", b"localhost:+80"):
        yield get(host=b"Host: " + value)


def line_ends():
    for whole in (get(), get(b"X-A: 1"), post(b"Content-Length: 4", body=b"{}{}")):
        at = -1
        while (at := whole.find(b"\r\n", at + 1)) >= 0:
            yield whole[:at] + b"\n" + whole[at + 2:]
            yield whole[:at] + b"\rX" + whole[at + 2:]
            yield whole[:at] + b"\r\r\n" + whole[at + 2:]
            yield whole[:at] + b"\n\r" + whole[at + 2:]
    yield get().replace(b"\r\n", b"\n")
    yield get(b"X-A: a\nb")
    yield get(b"X-A: a\rb")
    yield get(b"X-A: a\n b")


def lengths():
    for value in (b"", b"+4", b"-4", b"4.0", b"4e0", b"0x4", b"04", b"4 4", b"4,4", b"4, 4",
                  b"4;", b"four",
                  b"\"4\"", b"4-4", b"18446744073709551616", b"9" * 19, b"9" * 400, b"4\xa0",
                  b"\xef\xbc\x94",
                  b"1_0", b"00", b"--0", b"4/4", b"(4)", b"4 ;x"):
        yield post(b"Content-Length: " + value, body=b"{}{}")
    for other in (b"0", b"4", b"5", b"60", b"x"):
        yield post(b"Content-Length: 4", b"Content-Length: " + other, body=b"{}{}")
        yield post(b"Content-Length: 4", b"content-length: " + other, body=b"{}{}")
    for value in (b"chunked", b"Chunked", b"CHUNKED"):
        yield post(b"Content-Length: 4", b"Transfer-Encoding: " + value, body=b"0\r\n\r\n")
        yield post(b"Transfer-Encoding: " + value, b"Content-Length: 4", body=b"0\r\n\r\n")
        yield post(b"Transfer-Encoding: " + value,
                   b"Transfer-Encoding: " + value, body=b"0\r\n\r\n")
        yield post(b"Transfer-Encoding: " + value,
                   b"Transfer-Encoding: identity", body=b"0\r\n\r\n")
        yield post(b"Transfer-Encoding: " + value, b"transfer-encoding: x", body=b"0\r\n\r\n")
    for value in (b"", b"gzip", b"identity", b"xchunked", b"chunkedx", b"chunked, gzip",
                  b"gzip, chunked",
                  b"chunked,", b",chunked", b"chunked, chunked", b"chunked;q=1", b"\"chunked\"",
                  b"x",
                  b"chunked chunked", b"'chunked'", b"chunk", b"chunked\xa0", b"identity, chunked"):
        yield post(b"Transfer-Encoding: " + value, body=b"0\r\n\r\n")
    yield get(b"Transfer-Encoding: chunked", line=b"POST /v1/jobs HTTP/1.0") + b"0\r\n\r\n"
    yield get(b"Content-Length: 4") + b"body"
    yield get(b"Transfer-Encoding: chunked") + b"0\r\n\r\n"


def chunked(body):
    return post(b"Transfer-Encoding: chunked", body=body)


def chunks():
    for size in (b"", b" 4", b"4 ", b"+4", b"-4", b"0x4", b"4x", b"g", b"000000004", b"fffffffff",
                 b"ffffffffffffffff", b"4,4", b"4 4", b"\xff", b"4:", b"4\x00", b"\t4", b"4.0",
                 b"_4", b"4=a"):
        yield chunked(size + b"\r\n{}{}\r\n0\r\n\r\n")
    for extension in (b";", b"; ", b";=", b";=a", b";a=", b";a=b c", b";a b", b";a=\"",
                      b";a=\"b", b";a=\"\\",
                      b";a=\"b\"c", b";(a)", b";a=(b)", b";a;;b", b";a,b", b";\x01", b";a=\x00",
                      b";a=\"\x7f\"",
                      b";" + b"a" * 2000, b";a=" + b"b" * 2000):
        yield chunked(b"4" + extension + b"\r\n{}{}\r\n0\r\n\r\n")
    for end in (b"", b"\n", b"\r", b"x\r\n", b"\r\r\n", b"\n\r", b" \r\n", b"}\r\n"):
        yield chunked(b"4\r\n{}{}" + end + b"0\r\n\r\n")
    for end in (b"\n", b"\r\r\n", b"\rx", b"\n\r\n"):
        yield chunked(b"4" + end + b"{}{}\r\n0\r\n\r\n")
        yield chunked(b"4\r\n{}{}\r\n0" + end + b"\r\n")
    for trailer in (b"X", b": a", b"X : a", b"X-A: a\x00", b"X-A: a\x01", b" X: a", b"X\x7f: a",
                    b"X-A: a\nb",
                    b"X-A: a\rb", b"(X): a", b"X-A: " + b"a" * 5000, b"\xff: a"):
        yield chunked(b"4\r\n{}{}\r\n0\r\n" + trailer + b"\r\n\r\n")
    yield chunked(b"4;a=" + b"b" * 900 + b"\r\n{}{}\r\n" + (b"4;a=" + b"b" * 900
                  + b"\r\n    \r\n") * 20)
    yield chunked(b"4\r\n{}{}\r\n0\r\n" + b"X-A: " + b"\r\nX-A: ".join([b"a" * 900] * 20)
                  + b"\r\n\r\n")


def floods():
    yield get(*[b"X-%d: a" % number for number in range(101)])
    yield get(b"X-A: " + b"a" * 40000)
    yield get(*[b"X-%d: %s" % (number, b"a" * 900) for number in range(60)])
    yield get(b"X" * 33000 + b": a")
    yield get(line=b"GET /" + b"a" * 9000 + b" HTTP/1.1")
    yield get(line=b"GET /livez?" + b"a" * 9000 + b" HTTP/1.1")
    yield get(line=b"A" * 40 + b" /livez HTTP/1.1")
    yield get(line=b"A" * 40000)
    yield b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield b"\x00" * 100
    yield b"\xff\xfe" * 300 + b"\r\n\r\n"
    yield b"\x80.\x01\x03\x01\x00\x15"
    yield b"{\"json\": 1}\n"
    yield b"GET\r\n\r\n"
    yield b"GET /livez\r\n\r\n"
    yield b"GET /livez\r\nHost: localhost\r\n\r\n"


CLASSES = {"request line": request_lines, "field": fields, "host": hosts, "line end": line_ends,
           "length": lengths, "chunk": chunks, "flood": floods}


def attacks():
    """All of them, each once."""
    seen = set()
    for name, make in CLASSES.items():
        for number, attack in enumerate(make()):
            if attack not in seen:
                seen.add(attack)
                yield f"{name} {number}", attack
