"""A name server that knows one machine under every name that ends with `.test`: this one."""

import socket
import struct

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 53))
while True:
    query, asker = server.recvfrom(512)
    end = 12
    while query[end]:
        end += query[end] + 1
    kind = struct.unpack("!H", query[end + 1 : end + 3])[0]
    known = query[:end].endswith(b"\x04test") and kind == 1
    answer = b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 5, 4) + bytes([127, 0, 0, 1]) if known else b""
    header = query[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if known else 0, 0, 0)
    server.sendto(header + query[12 : end + 5] + answer, asker)
