"""What programs do with MySQL's own driver, through the gateway; prints `done` when all of it worked."""

import datetime
import decimal
import os

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
cursor = connection.cursor(prepared=True)
cursor.execute("SELECT name FROM item WHERE id = ?", (2,))
assert cursor.fetchall() == [("chair",)]
cursor.execute("SELECT name FROM item WHERE id = ?", (3,))
assert cursor.fetchall() == [("desk",)]
when = datetime.datetime(2026, 11, 22, 23, 59, 1, 7)
cursor.execute(
    "SELECT ?, ?, ?, ?, ?, ?",
    (when, decimal.Decimal("1.10"), 1.5, -3, None, b"\xff\x01"),
)
row = cursor.fetchone()
assert float(row[1]) == 1.1 and row[2] == 1.5 and row[3] == -3 and row[4] is None, row
cursor.close()

cursor = connection.cursor(dictionary=True)
cursor.execute("SELECT id, name FROM item ORDER BY id")
assert [row["name"] for row in cursor.fetchall()] == ["lamp", "chair", "desk"]
cursor.close()
connection.start_transaction()
cursor = connection.cursor()
cursor.execute("DELETE FROM item")
assert cursor.rowcount == 3
connection.rollback()
cursor.execute("SELECT count(*) FROM item")
assert cursor.fetchone() == (3,)
connection.reset_session()
connection.close()
print("done")
