"""More than a hundred statements on each of several connections, in every form of the protocol, each with a mark of
its own where whoever sends it can choose its text; prints the server's number and the session of each connection, and
`done`."""

import os
import random
import struct
import sys

import mysql.connector
import pymysql
from pymysql.constants import CLIENT, COMMAND

dice = random.Random(20261123)
number = 0
RESET_CONNECTION = 0x1F
# They would execute something, or read what is everybody's; the gateway passes on none of them.
REFUSED = [0x05, 0x06, 0x07, 0x08, 0x0A, 0x0D, 0x11, 0x12, 0x15, 0xFA, 0xFE]
WHO = (
    "SELECT CONNECTION_ID(), ATTR_VALUE FROM performance_schema.session_connect_attrs"
    " WHERE PROCESSLIST_ID = CONNECTION_ID() AND ATTR_NAME = 'sallyport_session'"
)


def mark():
    global number
    number += 1
    return f"~m{number}~"


def sql(text):
    """The same with its mark somewhere: in a comment of any kind, or in a text."""
    form = dice.randrange(5)
    if form == 0:
        return f"/* {mark()} */ {text}"
    if form == 1:
        return f"{text} /* ; {mark()} ' */"
    if form == 2:
        return f"{text} -- {mark()} ;"
    if form == 3:
        return f"{text} # ' {mark()} `"
    return f"{text} /* of\n two lines {mark()} */"


def options(**more):
    return dict(
        host="127.0.0.1",
        port=int(os.environ["MYSQL_PORT"]),
        user=os.environ["MYSQL_USER"],
        password=os.environ["MYSQL_PWD"],
        database="shop",
        ssl_ca=os.environ["MYSQL_CA"],
        ssl_verify_identity=True,
        **more,
    )


class Raw:
    """PyMySQL for text, and single commands as no driver sends them, one by one."""

    def __init__(self):
        self.connection = pymysql.connect(
            **options(client_flag=CLIENT.MULTI_STATEMENTS, local_infile=True)
        )
        self.cursor = self.connection.cursor()

    def text(self, statement):
        """The rows of its last result."""
        self.cursor.execute(statement)
        rows = self.cursor.fetchall()
        while self.cursor.nextset():
            rows = self.cursor.fetchall()
        return rows

    def fails(self, statement):
        try:
            self.text(statement)
        except pymysql.Error:
            return
        raise SystemExit(f"it went well: {statement}")

    def say(self, code, body=b""):
        self.connection._execute_command(code, body)

    def packet(self):
        return self.connection._read_packet()

    def one(self, code, body=b""):
        self.say(code, body)
        self.packet()

    def rest(self):
        count = 0
        while not self.packet().is_eof_packet():
            count += 1
        return count

    def prepare(self, statement):
        self.say(COMMAND.COM_STMT_PREPARE, statement)
        known, columns, parameters = struct.unpack("<IHH", self.packet().get_all_data()[1:9])
        for some in (parameters, columns):
            if some:
                assert self.rest() == some
        return known

    def execute(self, known, values=b"", flags=0):
        """How many rows came back; nothing when they wait for a cursor."""
        self.say(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", known, flags, 1) + values)
        rows = None
        while True:
            first = self.packet()
            if first.is_ok_packet():
                return rows
            definitions = self.packet()
            while not definitions.is_eof_packet():
                definitions = self.packet()
            (status,) = struct.unpack("<H", definitions.get_all_data()[3:5])
            if status & 0x40:
                return None
            rows, end = 0, self.packet()
            while not end.is_eof_packet():
                rows, end = rows + 1, self.packet()
            (status,) = struct.unpack("<H", end.get_all_data()[3:5])
            if not status & 0x08:
                return rows

    def close(self, known):
        self.say(COMMAND.COM_STMT_CLOSE, struct.pack("<I", known))

    def cursor_of(self, statement):
        """Opened, read by twos, opened again and left."""
        known = self.prepare(statement)
        assert self.execute(known, flags=1) is None
        for expected in (2, 1):
            self.say(COMMAND.COM_STMT_FETCH, struct.pack("<II", known, 2))
            assert self.rest() == expected
        assert self.execute(known, flags=1) is None
        self.one(COMMAND.COM_STMT_RESET, struct.pack("<I", known))
        self.close(known)

    def in_pieces(self, statement):
        known = self.prepare(statement)
        for piece in (b"x" * 700, b"' ~ \\ -- y" * 30):
            self.say(COMMAND.COM_STMT_SEND_LONG_DATA, struct.pack("<IH", known, 0) + piece)
        assert self.execute(known, bytes([0, 1, 252, 0])) == 1
        self.close(known)


def by_hand(raw, turn):
    form = turn % 14
    if form == 0:
        raw.text(sql("SELECT 1"))
        raw.text(f"SELECT 1 AS `naïve {mark()}`")
    elif form == 1:
        raw.text(f"SELECT 1; SELECT '{mark()}; --'; SELECT \"it''s ; {mark()}\"; SELECT 4 /* {mark()} */")
    elif form == 2:
        # It fails in the middle: what stands behind is in its text, at the server as here.
        raw.fails(f"SELECT '{mark()}'; SELECT nonsense; SELECT '{mark()}'")
        raw.fails(sql("SELEC 1"))
        raw.fails(sql("INSERT INTO item VALUES (1, 'twice')"))
    elif form == 3:
        raw.text(f"/*!50000 SELECT '{mark()}' */")
        raw.text(f"/*M! SELECT '{mark()}' */")
        raw.text(sql("SET STATEMENT max_statement_time = 100 FOR SELECT 8"))
    elif form == 4:
        raw.text(f"PREPARE p FROM 'SELECT ? /* {mark()} */'")
        raw.text(f"SET @a = '{mark()}'")
        raw.text("EXECUTE p USING @a /* %s */" % mark())
        raw.text(f"EXECUTE IMMEDIATE 'SELECT 3' /* {mark()} */")
        raw.text(f"DEALLOCATE PREPARE p /* {mark()} */")
    elif form == 5:
        known = raw.prepare(sql("SELECT name FROM item WHERE id = ?"))
        # With its types, and then without them.
        assert raw.execute(known, bytes([0, 1, 3, 0]) + struct.pack("<i", 2)) == 1
        assert raw.execute(known, bytes([0, 0]) + struct.pack("<i", 3)) == 1
        raw.close(known)
        raw.in_pieces(sql("SELECT LENGTH(?)"))
    elif form == 6:
        raw.cursor_of(sql("SELECT id FROM item ORDER BY id"))
        # Several results of one execution.
        known = raw.prepare(sql("CALL both_of(?)"))
        raw.execute(known, bytes([0, 1, 3, 0]) + struct.pack("<i", 2))
        raw.close(known)
    elif form == 7:
        raw.text(sql("START TRANSACTION"))
        raw.text(sql("UPDATE item SET name = 'other' WHERE id = 3"))
        raw.text(sql("SAVEPOINT here"))
        raw.text(sql("ROLLBACK TO SAVEPOINT here"))
        raw.text(sql("ROLLBACK"))
        raw.connection.begin()
        raw.connection.commit()
    elif form == 8:
        raw.text(sql(f"LOAD DATA LOCAL INFILE '{os.environ['ROWS']}' IGNORE INTO TABLE item"))
        raw.text(sql("DELETE FROM item WHERE id > 3"))
    elif form == 9:
        raw.text(f"BEGIN NOT ATOMIC DECLARE a int; SET a = 1; SELECT '{mark()}'; END")
        raw.text(sql("CALL both_of(1)"))
        raw.text(sql("DO SLEEP(0)"))
    elif form == 10:
        raw.connection.select_db("shop")
        raw.text(sql("USE shop"))
        raw.say(COMMAND.COM_FIELD_LIST, f"item\0{mark()}".encode())
        raw.rest()
        raw.text(sql("HANDLER item OPEN"))
        raw.text(sql("HANDLER item READ FIRST"))
        raw.text(sql("HANDLER item CLOSE"))
    elif form == 11:
        # Neither executes anything.
        raw.connection.ping(reconnect=False)
        raw.one(COMMAND.COM_STATISTICS)
        raw.one(COMMAND.COM_SET_OPTION, b"\1\0")
        raw.fails(f"SELECT 1; SELECT '{mark()}'")
        raw.one(COMMAND.COM_SET_OPTION, b"\0\0")
        try:
            raw.prepare("SELECT nonsense /* never executed */")
        except pymysql.Error:
            pass
        for code in REFUSED:
            try:
                raw.one(code, b"root\0\0mysql\0")
                raise SystemExit(f"a command was let through: {code}")
            except pymysql.Error as error:
                assert error.args[0] == 1047, error
    elif form == 12:
        raw.text(f"/* {mark()} */ SELECT LENGTH('{'z' * 40_000}')")
        raw.text(sql("EXPLAIN SELECT count(*) FROM item"))
        raw.text(sql("SHOW TABLES"))
        raw.text(sql("ANALYZE FORMAT=JSON SELECT count(*) FROM item"))
    else:
        raw.text(sql("CREATE OR REPLACE TEMPORARY TABLE scratch (a int)"))
        raw.text(sql("INSERT INTO scratch VALUES (1), (2) RETURNING a"))
        raw.one(RESET_CONNECTION)
        raw.fails(sql("SELECT a FROM scratch"))


def by_driver(connection, turn):
    form = turn % 5
    if form == 0:
        cursor = connection.cursor(prepared=True)
        text = sql("SELECT ?, ?, name FROM item WHERE id = ?")
        for value in (1, 2, 3):
            cursor.execute(text, ("it's 'so' ? ~", None, value))
            assert len(cursor.fetchall()) == 1
        cursor.close()
    elif form == 1:
        cursor = connection.cursor(prepared=True)
        # It fails when it runs, and is on record all the same.
        try:
            cursor.execute(sql("SELECT (SELECT id FROM item WHERE id > ?)"), (0,))
            cursor.fetchall()
            raise SystemExit("two rows were one")
        except mysql.connector.Error as error:
            assert error.errno == 1242, error
        cursor.close()
        cursor = connection.cursor(prepared=True)
        cursor.execute(sql("UPDATE item SET name = ? WHERE id = 3"), (b"raw \xc3\xa9",))
        cursor.close()
    elif form == 2:
        connection.start_transaction()
        cursor = connection.cursor()
        cursor.execute(sql("SELECT name FROM item WHERE id = %s"), (2,))
        cursor.fetchall()
        cursor.close()
        connection.rollback()
    elif form == 3:
        cursor = connection.cursor()
        cursor.callproc("both_of", (2,))
        cursor.close()
    else:
        connection.reset_session()
        cursor = connection.cursor()
        cursor.execute(f"SELECT 1; SELECT '{mark()}'")
        cursor.fetchall()
        assert cursor.nextset()
        cursor.fetchall()
        cursor.close()


os.environ["ROWS"] = os.path.join(os.environ["HOME"], "rows.tsv")
with open(os.environ["ROWS"], "w") as rows:
    rows.write("7\tseven\n8\teight\n")
for connection_number in range(int(sys.argv[1])):
    raw = Raw()
    ((at, session),) = raw.text(WHO)
    print("connection", at, session)
    for turn in range(42):
        by_hand(raw, turn)
    raw.connection.close()
    driver = mysql.connector.connect(
        **options(ssl_verify_cert=True, use_pure=True, autocommit=True, collation="utf8mb4_general_ci")
    )
    cursor = driver.cursor()
    cursor.execute(WHO)
    ((at, session),) = cursor.fetchall()
    cursor.close()
    print("connection", at, session)
    for turn in range(15):
        by_driver(driver, turn)
    driver.close()

print("done")
