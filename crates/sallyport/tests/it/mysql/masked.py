"""Masked columns for programs: text rows, rows of prepared statements, cursors, several statements in a message; prints
`done` when all of it went as it should."""

import os
import struct

import mysql.connector
import pymysql
from pymysql.constants import CLIENT, COMMAND

SECRET = "canary"
where = {
    "host": "127.0.0.1",
    "port": int(os.environ["MYSQL_PORT"]),
    "user": os.environ["MYSQL_USER"],
    "password": os.environ["MYSQL_PWD"],
    "database": "shop",
    "ssl_ca": os.environ["MYSQL_CA"],
}
text = pymysql.connect(**where, ssl_verify_identity=True, client_flag=CLIENT.MULTI_STATEMENTS, charset="utf8mb4")


def rows(sql, values=None):
    with text.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall()


def refused(sql):
    try:
        shown = rows(sql)
        raise AssertionError(f"it was shown: {shown}")
    except pymysql.Error as error:
        assert error.args[0] in (1143, 1792), error
        assert SECRET not in str(error), error


[row] = rows("SELECT id, email, iban, born, kind FROM customer WHERE id = %s", (1,))
assert row[0] == 1 and row[1].startswith("tok_") and row[2:4] == ("****1234", None), row
token = row[1]

# Several statements and their results: nothing of one that touches masked columns beside another.
for sql in (
    "SELECT 1; SELECT email FROM customer",
    "SELECT email FROM customer; SELECT upper(email) FROM customer",
    "SELECT name FROM item; SELECT upper(email) FROM customer",
    "BEGIN NOT ATOMIC SELECT email FROM customer; END",
    "SELECT 1; SHOW WARNINGS",
):
    refused(sql)
with text.cursor() as cursor:
    cursor.execute("SELECT name FROM item WHERE id = 1; SELECT upper(name) FROM item WHERE id = 2")
    assert cursor.fetchall() == (("lamp",),)
    assert cursor.nextset() and cursor.fetchall() == (("CHAIR",),)

# A comparison that the server warns of with the value in its words, and an error that would tell it.
assert rows("SELECT id FROM customer WHERE email = 0") != ()
refused("SHOW WARNINGS")
refused("SHOW COUNT(*) WARNINGS")
refused("GET DIAGNOSTICS CONDITION 1 @told = MESSAGE_TEXT")
refused("SELECT id FROM customer WHERE pow(ord(email), 1000000) > 1")
try:
    shown = rows("SELECT nothing FROM customer")
    raise AssertionError(f"there is no such column: {shown}")
except pymysql.Error as error:
    assert error.args[0] == 1054 and "shown by its code alone" in error.args[1], error

# What a refused statement was to keep for later is not there.
refused("SELECT @kept := email FROM customer")
refused("SELECT email INTO @kept FROM customer LIMIT 1")
refused("SET @kept = (SELECT max(email) FROM customer)")
assert rows("SELECT @kept") == ((None,),)
refused("SELECT id FROM customer WHERE last_insert_id(ord(email)) > 0")
refused("SELECT id FROM customer WHERE id=1 AND `last_insert_id`(CONV(HEX(SUBSTR(email,1,8)),16,10)) > 0")
assert rows("SELECT last_insert_id()") == ((0,),)

# Rows are masked however many there are, and what is too long to be masked is refused.
many = rows("SELECT c.email, i.name FROM customer c, item i, item j, item k, item l, item m WHERE c.id = 1")
assert len(many) == 3**5 and {row[0] for row in many} == {token}
refused("SELECT email, long_one FROM customer WHERE id = 4")
assert rows("SELECT length(long_one) FROM big") == ((2_000_000,),)

# Another set of characters for results is no way around a token.
text.query("SET character_set_results = latin1")
[row] = rows("SELECT email, iban FROM customer WHERE id = 1")
assert row == (token, "****1234"), row
text.query("SET NAMES utf8mb4")
refused("SET character_set_results = utf16")
refused("SET NAMES filename")

# A masked column that the account may not see keeps its table and the views over it from being read.
refused("SELECT id FROM pay.staff")
refused("SELECT name FROM staff_shown")


def packet():
    return text._read_packet()


def prepare(sql):
    text._execute_command(COMMAND.COM_STMT_PREPARE, sql)
    said = packet().get_all_data()
    number, columns = struct.unpack("<IH", said[1:7])
    for _ in range(columns):
        packet()
    assert columns == 0 or packet().is_eof_packet()
    return number


# A cursor over masked tables is refused, because servers describe its fields by the names that a statement chose;
# without one the same statement is shown, and over other tables cursors are as ever.
def execute(number, flags):
    text._execute_command(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", number, flags, 1))
    return packet().get_all_data()


for sql in ("SELECT email FROM customer WHERE id = 1", "SELECT email AS id FROM customer WHERE id = 1"):
    number = prepare(sql)
    for flags in (1, 2, 4, 0x80):
        try:
            shown = execute(number, flags)
            raise AssertionError(f"it was shown: {shown}")
        except pymysql.Error as error:
            assert error.args[0] == 1143, error
    assert execute(number, 0)[0] == 1
    packet()
    assert packet().is_eof_packet()
    row = packet().get_all_data()
    assert token.encode() in row and SECRET.encode() not in row, row
    assert packet().is_eof_packet()
number = prepare("SELECT name FROM item ORDER BY id")
assert execute(number, 1)[0] == 1
packet()
assert packet().is_eof_packet()
text._execute_command(0x1C, struct.pack("<II", number, 1))
assert b"lamp" in packet().get_all_data()
assert packet().is_eof_packet()

# One that cannot be shown is not prepared; one that was, and is executed otherwise, is judged again.
for sql in ("SELECT upper(email) FROM (SELECT email FROM customer) c", "SELECT note FROM shown"):
    try:
        prepare(sql)
        raise AssertionError("it was prepared")
    except pymysql.Error as error:
        assert error.args[0] == 1143, error
number = prepare("SELECT email = 'a' FROM customer")
text._execute_command(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", number, 0, 1))
try:
    shown = packet().get_all_data()
    raise AssertionError(f"it was shown: {shown}")
except pymysql.Error as error:
    assert error.args[0] == 1143, error
assert rows("SELECT name FROM item WHERE id = 1") == (("lamp",),)
text.close()

binary = mysql.connector.connect(
    **where, ssl_verify_cert=True, ssl_verify_identity=True, use_pure=True, autocommit=True, collation="utf8mb4_general_ci"
)
cursor = binary.cursor(prepared=True)
for _ in range(2):
    cursor.execute("SELECT id, email, iban, born, kind FROM customer WHERE id = ?", (1,))
    [row] = cursor.fetchall()
    assert row[:4] == (1, token, "****1234", None), row
cursor.execute("SELECT id, email, iban, born, kind FROM customer WHERE id = ?", (2,))
[row] = cursor.fetchall()
assert row[1].startswith("tok_") and row[1] != token and row[2] == "****" and row[3] is None, row
cursor.close()
for sql in ("SELECT concat(email, ?) FROM customer", "SELECT CASE WHEN id = ? THEN email END FROM customer"):
    cursor = binary.cursor(prepared=True)
    try:
        cursor.execute(sql, (1,))
        raise AssertionError(f"it was shown: {cursor.fetchall()}")
    except mysql.connector.Error as error:
        assert error.errno == 1143, error
    cursor.close()
# A connection is not made anew: what it tells of its state would not be known. It goes on as it was.
assert not binary.cmd_reset_connection()
cursor = binary.cursor()
cursor.execute("SELECT email FROM shop.customer WHERE id = 1")
assert cursor.fetchall() == [(token,)]
binary.close()
print("done")
