"""A hundred statements and more on each of several connections, in every form of the protocol, each with a
mark; prints the session of each connection, and `done`."""

import os
import random
import socket
import ssl
import struct
import sys

import psycopg
from psycopg import ClientCursor

dice = random.Random(20261122)
number = 0


def mark():
    global number
    number += 1
    return f"~m{number}~"


def sql(text):
    """The same with its mark somewhere: in a comment of either kind, or a text."""
    form = dice.randrange(4)
    if form == 0:
        return f"/* {mark()} */ {text}"
    if form == 1:
        return f"{text} /* /* {mark()} */ ; */"
    if form == 2:
        return f"{text} -- {mark()} ;"
    return f"{text} -- ' {mark()} $$"


class Raw:
    """Messages of the protocol as no driver sends them, one by one."""

    def __init__(self):
        stream = socket.create_connection((os.environ["PGHOST"], int(os.environ["PGPORT"])))
        stream.sendall(struct.pack("!II", 8, 80877103))
        assert stream.recv(1) == b"S"
        tls = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
        self.stream = tls.wrap_socket(stream, server_hostname=os.environ["PGHOST"])
        names = {"user": os.environ["PGUSER"], "database": os.environ["PGDATABASE"]}
        body = b"".join(part.encode() + b"\0" for pair in names.items() for part in pair) + b"\0"
        self.stream.sendall(struct.pack("!IHH", len(body) + 8, 3, 0) + body)
        self.until(b"R")
        self.say(b"p", os.environ["PGPASSWORD"].encode() + b"\0")
        self.until(b"Z")

    def say(self, kind, body):
        self.stream.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def exactly(self, count):
        taken = b""
        while len(taken) < count:
            piece = self.stream.recv(count - len(taken))
            assert piece, "the gateway left"
            taken += piece
        return taken

    def until(self, wanted):
        """Kinds of the answers up to this one."""
        kinds = b""
        while not kinds.endswith(wanted):
            kinds += self.exactly(1)
            (length,) = struct.unpack("!I", self.exactly(4))
            self.exactly(length - 4)
        return kinds

    def portal(self, text):
        """One portal, its rows taken two by two."""
        self.say(b"P", b"\0" + text.encode() + b"\0\0\0")
        self.say(b"B", b"rows\0\0" + bytes(6))
        for _ in range(2):
            self.say(b"E", b"rows\0" + struct.pack("!I", 2))
        self.say(b"S", b"")
        kinds = self.until(b"Z")
        assert kinds.count(b"D") == 3 and b"s" in kinds, kinds

    def call(self):
        """A function by its number: the absolute value of an int4."""
        self.say(b"F", struct.pack("!IHHHIiH", 1397, 1, 1, 1, 4, -7, 1))
        assert b"V" in self.until(b"Z")

    def bye(self):
        self.say(b"X", b"")
        self.stream.close()


def attempt(connection, text, values=None, **options):
    try:
        connection.execute(text, values, **options)
    except psycopg.Error:
        pass


for connection_number in range(int(sys.argv[1])):
    raw = Raw()
    for turn in range(10):
        raw.portal(sql("SELECT name FROM item"))
        raw.call()
    raw.bye()
    with psycopg.connect(autocommit=True) as connection:
        name = connection.execute("SELECT current_setting('application_name')").fetchone()[0]
        print(name.split()[0].removeprefix("sallyport:"))
        connection.execute(sql("CREATE TEMPORARY TABLE scratch (id int)"))
        for turn in range(99):
            form = turn % 11
            simple = ClientCursor(connection)
            if form == 0:
                simple.execute(sql("SELECT 1"))
            elif form == 1:
                simple.execute(f"SELECT 1; SELECT '{mark()}; --'; SELECT $a$ ; {mark()} $a$")
            elif form == 2:
                connection.execute(sql("SELECT %s::int"), (turn,))
            elif form == 3:
                text = sql("SELECT name FROM item WHERE id = %s")
                for value in (1, 2):
                    connection.execute(text, (value,), prepare=True)
            elif form == 4:
                with connection.pipeline():
                    for value in range(3):
                        connection.execute(sql("SELECT %s::int"), (value,))
            elif form == 5:
                with connection.cursor().copy(sql("COPY item TO STDOUT")) as copy:
                    list(copy)
            elif form == 6:
                simple.execute(f"DO $do$ BEGIN PERFORM '{mark()}'; END $do$")
                simple.execute(f"PREPARE p{turn} AS SELECT '{mark()}'")
                simple.execute(sql(f"EXECUTE p{turn}"))
            elif form == 7:
                # It fails when it runs, and is on record all the same.
                attempt(connection, sql("SELECT 1 / %s::int"), (0,))
                attempt(simple, sql("SELECT 1 / 0"))
            elif form == 8:
                with connection.transaction():
                    connection.execute(sql("WITH gone AS (DELETE FROM item WHERE id < 0 RETURNING 1) TABLE gone"))
                    with connection.cursor(f"c{turn}") as cursor:
                        cursor.execute(sql("SELECT name FROM item"))
                        cursor.fetchall()
            elif form == 9:
                with connection.cursor().copy(sql("COPY scratch FROM STDIN")) as copy:
                    copy.write_row((turn,))
                # Neither is executed: one no server parses, the other comes behind it in its message.
                attempt(simple, "SELEC 1; SELECT 2")
            else:
                connection.execute(sql("EXPLAIN ANALYZE SELECT count(*) FROM item"), binary=True)

print("done")
