"""What programs do with PyMySQL, through the gateway; prints `done` when all of it worked."""

import os
import struct

import pymysql
from pymysql.constants import CLIENT, COMMAND


def connect(**more):
    return pymysql.connect(
        host="127.0.0.1",
        port=int(os.environ["MYSQL_PORT"]),
        user=os.environ["MYSQL_USER"],
        password=os.environ["MYSQL_PWD"],
        database="shop",
        ssl_ca=os.environ["MYSQL_CA"],
        ssl_verify_identity=True,
        **more,
    )


connection = connect(client_flag=CLIENT.MULTI_STATEMENTS)
cursor = connection.cursor()
cursor.execute("SELECT name FROM item WHERE id = %s", (2,))
assert cursor.fetchall() == (("chair",),)

# Several statements in one message, one of which gives nothing, and one that fails last.
cursor.execute("SELECT 1; SET @a = 2; SELECT @a")
results = [cursor.fetchall()]
while cursor.nextset():
    results.append(cursor.fetchall())
assert [r for r in results if r] == [((1,),), ((2,),)], results
try:
    cursor.execute("SELECT 1; SELECT * FROM nothing")
    while cursor.nextset():
        pass
    raise SystemExit("an error was lost")
except pymysql.err.ProgrammingError as error:
    assert error.args[0] == 1146, error

# Procedures give results of their own, and one more that says they are done.
cursor.execute("CREATE PROCEDURE both_of(IN n int) BEGIN SELECT n; SELECT name FROM item WHERE id = n; END")
cursor.callproc("both_of", (3,))
assert cursor.fetchall() == ((3,),)
assert cursor.nextset() and cursor.fetchall() == (("desk",),)
while cursor.nextset():
    pass
cursor.execute("DROP PROCEDURE both_of")

# A transaction, and many rows.
cursor.execute("CREATE TABLE work (id int PRIMARY KEY, body longtext, raw longblob)")
cursor.executemany("INSERT INTO work VALUES (%s, %s, %s)", [(n, f"né {n}", bytes(range(256))) for n in range(500)])
connection.rollback()
cursor.execute("SELECT count(*) FROM work")
assert cursor.fetchone() == (0,)
cursor.executemany("INSERT INTO work VALUES (%s, %s, %s)", [(n, f"né {n}", bytes(range(256))) for n in range(500)])
connection.commit()
cursor.execute("SELECT * FROM work ORDER BY id")
rows = cursor.fetchall()
assert len(rows) == 500 and rows[7] == (7, "né 7", bytes(range(256)))

# A row that takes more than one packet.
cursor.execute("SELECT REPEAT('x', 9000000), REPEAT('y', 9000000)")
(x, y) = cursor.fetchone()
assert x == "x" * 9_000_000 and y == "y" * 9_000_000
# A statement that takes more than one is refused by the server beyond its own limit, and passes below.
cursor.execute("SELECT LENGTH(%s)", ("z" * 10_000_000,))
assert cursor.fetchone() == (10_000_000,)

connection.ping(reconnect=False)
connection.select_db("shop")
assert connection.get_server_info().startswith("8.0")


# The binary protocol by hand: PyMySQL itself has none.
def definitions(count):
    for _ in range(count):
        connection._read_packet()
    if count:
        assert connection._read_packet().is_eof_packet()


def prepare(sql):
    connection._execute_command(COMMAND.COM_STMT_PREPARE, sql)
    packet = connection._read_packet()
    number, columns, parameters = struct.unpack("<IHH", packet.get_all_data()[1:9])
    definitions(parameters)
    definitions(columns)
    return number


def rows_of(number, flags=0, body=b""):
    connection._execute_command(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", number, flags, 1) + body)
    first = connection._read_packet()
    if first.is_ok_packet():
        return []
    for _ in range(first.get_all_data()[0]):
        connection._read_packet()
    end = connection._read_packet()
    assert end.is_eof_packet()
    if struct.unpack("<H", end.get_all_data()[3:5])[0] & 0x40:
        return None
    return rest()


def rest():
    found = []
    while True:
        packet = connection._read_packet()
        if packet.is_eof_packet():
            return found
        found.append(packet.get_all_data())


number = prepare("SELECT ?, ?, ?, name FROM item WHERE id = ?")
kinds = bytes([253, 0, 6, 0, 3, 0, 3, 0])
body = bytes([0b0010, 1]) + kinds + b"\x04text" + struct.pack("<ii", 7, 2)
(row,) = rows_of(number, body=body)
assert row.endswith(b"\x05chair"), row
# The same types again, without saying so.
(row,) = rows_of(number, body=bytes([0b0010, 0]) + b"\x04text" + struct.pack("<ii", 7, 3))
assert row.endswith(b"\x04desk"), row

# A value in pieces.
number = prepare("SELECT LENGTH(?)")
for piece in (b"x" * 100_000, b"y" * 50_000):
    connection._execute_command(COMMAND.COM_STMT_SEND_LONG_DATA, struct.pack("<IH", number, 0) + piece)
(row,) = rows_of(number, body=bytes([0, 1, 252, 0]))
assert int.from_bytes(row[2:], "little") == 150_000, row

# A cursor, read in three goes; then it is reset and closed.
number = prepare("SELECT id FROM work ORDER BY id")
assert rows_of(number, flags=1) is None
sizes = []
for count in (200, 200, 200):
    connection._execute_command(COMMAND.COM_STMT_FETCH, struct.pack("<II", number, count))
    sizes.append(len(rest()))
assert sizes == [200, 200, 100], sizes
connection._execute_command(COMMAND.COM_STMT_RESET, struct.pack("<I", number))
assert connection._read_packet().is_ok_packet()
connection._execute_command(COMMAND.COM_STMT_CLOSE, struct.pack("<I", number))
# Nobody knows what is under this number.
connection._execute_command(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", 4_000, 0, 1))
try:
    connection._read_packet()
    raise SystemExit("a statement that nobody prepared ran")
except pymysql.err.Error as error:
    assert error.args[0] == 1243, error

# Asked for fields without a statement, as `mariadb` does for its completion.
connection._execute_command(COMMAND.COM_FIELD_LIST, b"item\0")
assert len(rest()) == 2

# Several at once, as pools have it; the pass is good for each.
others = [connect() for _ in range(5)]
for other in others:
    with other.cursor() as asking:
        asking.execute("SELECT CONNECTION_ID()")
        assert asking.fetchone()[0] > 0
    other.close()
cursor.execute("DROP TABLE work")
connection.close()
print("done")
