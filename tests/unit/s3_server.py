"""As much of S3 as an export needs, on loopback: objects in memory, uploads in parts, copies, lists, deletions."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape


class S3Server(ThreadingHTTPServer):
    """The server.

    :param objects: content by `<bucket>/<key>`.
    :param requests: the method of each request, the key, and what it asks for, in order.
    :param failing: answers these many requests more that write or copy, and then each of them with an error.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.failing: int | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """Serve as long as the context lasts."""
    server = S3Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: S3Server
    protocol_version = "HTTP/1.1"

    def _asked(self) -> tuple[str, dict[str, str], bytes]:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        key = unquote(parts.path).strip("/")
        self.server.requests.append((self.command, key, " ".join(query)))
        return key, query, self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _fails(self) -> bool:
        """Count a request that writes; answer it with an error when its time has come."""
        if self.server.failing is None:
            return False
        self.server.failing -= 1
        if self.server.failing < 0:
            self._answer(403, "<Error><Code>AccessDenied</Code><Message>the bucket is closed</Message></Error>")
            return True
        return False

    def _answer(self, status: int = 200, body: str | bytes = b"", **headers: str) -> None:
        content = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.pop("length", str(len(content))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _not_there(self) -> None:
        self._answer(404, "<Error><Code>NoSuchKey</Code><Message>not there</Message></Error>")

    def do_HEAD(self) -> None:
        key, _, _ = self._asked()
        content = self.server.objects.get(key)
        if content is None and "/" in key:
            return self._not_there()
        return self._answer(200, content or b"", ETag=_etag(content or b""))

    def do_GET(self) -> None:
        key, query, _ = self._asked()
        if "list-type" in query:
            return self._list(key, query)
        content = self.server.objects.get(key)
        if content is None:
            return self._not_there()
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        part = content[int(first) : int(last) + 1 if last else None]
        span = f"bytes {first}-{int(first) + len(part) - 1}/{len(content)}"
        return self._answer(206 if "Range" in self.headers else 200, part, ETag=_etag(content), Content_Range=span)

    def _list(self, bucket: str, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        keys = sorted(each.partition("/")[2] for each in self.server.objects if each.startswith(f"{bucket}/"))
        found, folders = [], set()
        for key in keys:
            if not key.startswith(prefix):
                continue
            rest = key.removeprefix(prefix)
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                found.append(key)
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.server.objects[f'{bucket}/{key}'])}</Size>"
            f"<ETag>{_etag(self.server.objects[f'{bucket}/{key}'])}</ETag>"
            "<LastModified>2026-04-01T08:00:00.000Z</LastModified></Contents>"
            for key in found
        )
        prefixes = "".join(f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in folders)
        self._answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}{prefixes}</ListBucketResult>")

    def do_PUT(self) -> None:
        key, query, body = self._asked()
        if self._fails():
            return None
        if "partNumber" in query:
            self.server.uploads[query["uploadId"]][int(query["partNumber"])] = body
            return self._answer(ETag=_etag(body))
        if source := self.headers.get("x-amz-copy-source"):
            body = self.server.objects[unquote(source).strip("/")]
            self.server.objects[key] = body
            return self._answer(200, f"<CopyObjectResult><ETag>{_etag(body)}</ETag></CopyObjectResult>")
        self.server.objects[key] = body
        return self._answer(ETag=_etag(body))

    def do_POST(self) -> None:
        key, query, body = self._asked()
        if "delete" in query:
            root = ElementTree.fromstring(body)
            names = [element.text for element in root.iter() if element.tag.endswith("}Key") or element.tag == "Key"]
            for name in names:
                self.server.objects.pop(f"{key}/{name}", None)
            return self._answer(200, "<DeleteResult></DeleteResult>")
        if "uploads" in query:
            upload = str(len(self.server.uploads))
            self.server.uploads[upload] = {}
            return self._answer(
                200, f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            )
        parts = self.server.uploads.pop(query["uploadId"])
        self.server.objects[key] = b"".join(parts[number] for number in sorted(parts))
        return self._answer(200, f"<CompleteMultipartUploadResult><ETag>{key}</ETag></CompleteMultipartUploadResult>")

    def do_DELETE(self) -> None:
        key, query, _ = self._asked()
        if "uploadId" in query:
            self.server.uploads.pop(query["uploadId"], None)
        else:
            self.server.objects.pop(key, None)
        self._answer(204)

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
