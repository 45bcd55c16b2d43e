"""What programs do with psycopg, through the gateway; prints `done` when all of it worked."""

import psycopg
from psycopg import errors, sql

with psycopg.connect(autocommit=True) as connection:
    # Prepared after some uses, and again with other values.
    for number in range(12):
        row = connection.execute("SELECT name, %s::int FROM item WHERE id = %s", (number, 2)).fetchone()
        assert row == ("chair", number), row
    connection.execute("CREATE TABLE work (id int PRIMARY KEY, body text, blob bytea)")
    connection.cursor().executemany(
        "INSERT INTO work VALUES (%s, %s, %s)", [(n, f"né {n}", bytes(range(256))) for n in range(300)]
    )
    assert connection.execute("SELECT count(*) FROM work").fetchone() == (300,)

    # Many messages before one synchronisation, one of which fails.
    with connection.pipeline() as pipeline:
        first = connection.execute("SELECT 1")
        second = connection.execute("SELECT count(*) FROM work WHERE id < %s", (10,))
        pipeline.sync()
        assert (first.fetchone(), second.fetchone()) == ((1,), (10,))
    try:
        with connection.pipeline():
            connection.execute("INSERT INTO work VALUES (1000, 'a', '')")
            connection.execute("SELECT 1 / 0")
            connection.execute("INSERT INTO work VALUES (1001, 'b', '')")
        raise AssertionError("a division by zero went well")
    except errors.DivisionByZero:
        pass
    assert connection.execute("SELECT count(*) FROM work WHERE id >= 1000").fetchone() == (0,)

    # Transactions, savepoints, errors in between.
    with connection.transaction():
        connection.execute("DELETE FROM work WHERE id = 7")
        try:
            with connection.transaction():
                connection.execute("INSERT INTO work VALUES (8, '', '')")
        except errors.UniqueViolation:
            pass
    assert connection.execute("SELECT count(*) FROM work").fetchone() == (299,)

    # Rows fetched in parts, copied out and in, large values.
    with connection.transaction(), connection.cursor("part") as part:
        part.execute("SELECT id FROM work ORDER BY id")
        part.itersize = 50
        assert sum(1 for _ in part) == 299
    with connection.cursor() as cursor, cursor.copy("COPY work TO STDOUT (FORMAT binary)") as copy:
        assert sum(len(piece) for piece in copy) > 299 * 256
    with connection.cursor() as cursor, cursor.copy("COPY work (id, body) FROM STDIN") as copy:
        for number in range(2000, 3000):
            copy.write_row((number, "copied"))
    large = "x" * 3_000_000
    assert connection.execute("SELECT length(%s)", (large,)).fetchone() == (len(large),)
    assert connection.execute("SELECT repeat('y', 5000000)").fetchone() == ("y" * 5_000_000,)

    # Notifications come by themselves.
    connection.execute("LISTEN news")
    connection.execute("SELECT pg_notify('news', 'hello')")
    note = next(connection.notifies(timeout=20, stop_after=1))
    assert (note.channel, note.payload) == ("news", "hello")

    # A statement that is cancelled from outside, and the connection goes on.
    connection.execute(sql.SQL("SET statement_timeout = {}").format(200))
    try:
        connection.execute("SELECT pg_sleep(60)")
        raise AssertionError("nothing timed out")
    except errors.QueryCanceled:
        pass
    assert connection.execute("SELECT 'goes on'").fetchone() == ("goes on",)
print("done")
