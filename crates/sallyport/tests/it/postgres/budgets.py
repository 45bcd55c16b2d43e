"""Results that are cut off in the extended protocol; prints `done` when all of it went as it should."""

import asyncio
import os
import ssl

import asyncpg
import psycopg

with psycopg.connect(autocommit=True) as connection:
    for large in ("SELECT generate_series(1, %s)", "SELECT name FROM item WHERE id > %s"):
        for _ in range(3):
            try:
                connection.execute(large, (1_000_000_000 if "series" in large else 0,)).fetchall()
                raise AssertionError("nothing was cut off")
            except psycopg.Error as error:
                assert error.sqlstate == "53400", error
            assert connection.execute("SELECT %s::int", (7,)).fetchone() == (7,)

    # What stands behind it in the same pipeline has not happened.
    try:
        with connection.pipeline():
            connection.execute("SELECT name FROM item WHERE id > %s", (0,))
            connection.execute("UPDATE item SET name = 'changed' WHERE id = %s", (2,))
        raise AssertionError("nothing was cut off")
    except psycopg.Error as error:
        assert error.sqlstate == "53400", error
    assert connection.execute("SELECT name FROM item WHERE id = %s", (2,)).fetchone() == ("chair",)

    # In a transaction, it fails; the next one goes on.
    try:
        with connection.transaction():
            connection.execute("UPDATE item SET name = 'changed' WHERE id = %s", (2,))
            connection.execute("SELECT name FROM item WHERE id > %s", (0,))
        raise AssertionError("nothing was cut off")
    except psycopg.Error as error:
        assert error.sqlstate == "53400", error
    with connection.transaction():
        assert connection.execute("SELECT name FROM item WHERE id = %s", (2,)).fetchone() == ("chair",)


async def in_pieces():
    """A portal whose rows are taken one by one: together they are one statement's."""
    tls = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
    connection = await asyncpg.connect(ssl=tls)
    try:
        async with connection.transaction():
            cursor = await connection.cursor("SELECT name FROM item ORDER BY id")
            assert [row["name"] for row in await cursor.fetch(1)] == ["lamp"]
            assert [row["name"] for row in await cursor.fetch(1)] == ["chair"]
            await cursor.fetch(1)
        raise AssertionError("nothing was cut off")
    except asyncpg.PostgresError as error:
        assert error.sqlstate == "53400", error
    assert await connection.fetchval("SELECT 'goes on'") == "goes on"
    await connection.close()


asyncio.run(in_pieces())
print("done")
