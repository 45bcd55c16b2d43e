"""Masked columns in the extended protocol; prints `done` when all of it went as it should."""

import psycopg


def refused(connection, text, values=(), **options):
    try:
        rows = connection.execute(text, values, **options).fetchall()
        raise AssertionError(f"it was shown: {rows}")
    except psycopg.Error as error:
        assert error.sqlstate == "42501", (error.sqlstate, error)


with psycopg.connect(autocommit=True) as connection:
    tokens = set()
    for binary in (False, True):
        for prepare in (False, True):
            for _ in range(2):
                row = connection.execute(
                    "SELECT id, email, iban, born FROM customer WHERE id = %s", (1,), binary=binary, prepare=prepare
                ).fetchone()
                assert row[0] == 1 and row[1].startswith("tok_") and row[2] == "****1234" and row[3] is None, row
                tokens.add(row[1])
    assert len(tokens) == 1, tokens
    refused(connection, "SELECT upper(email) FROM customer WHERE id = %s", (1,))
    refused(connection, "SELECT upper(email) FROM customer WHERE id = %s", (1,), prepare=True)
    assert connection.execute("SELECT name FROM item WHERE id = %s", (2,)).fetchone() == ("chair",)

    # What stands before it in the same pipeline is shown, what stands behind it is not.
    try:
        with connection.pipeline():
            first = connection.execute("SELECT email FROM customer WHERE id = %s", (1,))
            connection.execute("SELECT max(email) FROM customer WHERE id = %s", (1,))
            connection.execute("SELECT email FROM customer WHERE id = %s", (2,))
        raise AssertionError("nothing was refused")
    except psycopg.Error as error:
        assert error.sqlstate == "42501", (error.sqlstate, error)
    assert {first.fetchone()[0]} == tokens

    # An error that tells a value, when it runs.
    try:
        connection.execute("SELECT id FROM customer WHERE email::int = %s", (1,)).fetchall()
        raise AssertionError("an address is no number")
    except psycopg.Error as error:
        assert error.sqlstate == "22P02" and "canary" not in str(error), error

    # Rows that were shown before stay shown as they were when there are many of them.
    rows = connection.execute(
        "SELECT c.email, i.name FROM customer c, item i, generate_series(1, %s) WHERE c.id = 1", (5000,)
    ).fetchall()
    assert len(rows) == 15_000 and {row[0] for row in rows} == tokens

print("done")
