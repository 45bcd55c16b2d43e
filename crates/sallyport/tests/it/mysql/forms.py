"""Statements in every form of the protocol, so many times, for comparing the evidence with the server's log."""

import os
import struct
import sys

import pymysql
from pymysql.constants import CLIENT, COMMAND

connection = pymysql.connect(
    host="127.0.0.1",
    port=int(os.environ["MYSQL_PORT"]),
    user=os.environ["MYSQL_USER"],
    password=os.environ["MYSQL_PWD"],
    database="shop",
    ssl_ca=os.environ["MYSQL_CA"],
    ssl_verify_identity=True,
    client_flag=CLIENT.MULTI_STATEMENTS,
)


def answer():
    """Reads one result whole."""
    first = connection._read_packet()
    if first.is_ok_packet():
        return
    for _ in range(first.get_all_data()[0]):
        connection._read_packet()
    assert connection._read_packet().is_eof_packet()
    while not connection._read_packet().is_eof_packet():
        pass


for n in range(int(sys.argv[1])):
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT 'by a driver {n}'")
        cursor.fetchall()
    connection._execute_command(COMMAND.COM_STMT_PREPARE, f"SELECT 'prepared {n}'")
    number = struct.unpack("<I", connection._read_packet().get_all_data()[1:5])[0]
    connection._read_packet()
    assert connection._read_packet().is_eof_packet()
    for _ in range(2):
        connection._execute_command(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", number, 0, 1))
        answer()
    connection._execute_command(COMMAND.COM_STMT_CLOSE, struct.pack("<I", number))
    connection._execute_command(COMMAND.COM_FIELD_LIST, b"item\0")
    while not connection._read_packet().is_eof_packet():
        pass
connection.close()
