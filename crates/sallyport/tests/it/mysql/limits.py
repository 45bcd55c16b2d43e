"""Reading only, and results that are cut off, with prepared statements and cursors; prints `done` when all of it
went as it should. The first word says which."""

import os
import sys

import mysql.connector

connection = mysql.connector.connect(
    host="127.0.0.1",
    port=int(os.environ["MYSQL_PORT"]),
    user=os.environ["MYSQL_USER"],
    password=os.environ["MYSQL_PWD"],
    database="shop",
    ssl_ca=os.environ["MYSQL_CA"],
    ssl_verify_cert=True,
    ssl_verify_identity=True,
    use_pure=True,
    autocommit=True,
    collation="utf8mb4_general_ci",
)


def fails(number, text, values=(), **options):
    cursor = connection.cursor(**options)
    try:
        cursor.execute(text, values)
        rows = cursor.fetchall()
        raise AssertionError(f"it went well: {rows}")
    except mysql.connector.Error as error:
        assert error.errno == number, error
    finally:
        cursor.close()


def gives(expected, text, values=(), **options):
    cursor = connection.cursor(**options)
    cursor.execute(text, values)
    assert cursor.fetchall() == expected
    cursor.close()


if sys.argv[1] == "reads":
    # The session is made anew, and reads all the same.
    connection.cmd_reset_connection()
    fails(1792, "SELECT * FROM shop.innocent")
    gives([(3,)], "SELECT count(*) FROM shop.item")
else:
    for _ in range(3):
        # Its first row: this driver does not look for an error behind one.
        fails(1317, "SELECT repeat('x', ?)", (70_000,), prepared=True)
        gives([("chair",)], "SELECT name FROM item WHERE id = ?", (2,), prepared=True)
        fails(1317, "SELECT a.id + %s FROM item a, seq_1_to_1000000000", (1,))
        gives([("chair",)], "SELECT name FROM item WHERE id = %s", (2,))
    # A cursor of the server's whose rows are fetched one by one: together they are one statement's.
    prepared = connection.cmd_stmt_prepare(b"SELECT name FROM item ORDER BY id")
    columns = prepared["columns"]
    connection.cmd_stmt_execute(prepared["statement_id"], flags=1)
    for expected in ("kept", "chair", None):
        try:
            connection.cmd_stmt_fetch(prepared["statement_id"], 1)
            rows, _ = connection.get_rows(binary=True, columns=columns)
            assert rows == [(expected,)], rows
        except mysql.connector.Error as error:
            assert expected is None and error.errno == 1317, error
            connection.unread_result = False
    gives([(3,)], "SELECT count(*) FROM item")

connection.close()
print("done")
