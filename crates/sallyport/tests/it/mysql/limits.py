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

connection.close()
print("done")
