"""What programs do with asyncpg, through the gateway; prints `done` when all of it worked."""

import asyncio
import os
import ssl

import asyncpg


async def main():
    tls = ssl.create_default_context(cafile=os.environ["PGSSLROOTCERT"])
    connection = await asyncpg.connect(ssl=tls)
    assert await connection.fetchval("SELECT $1::int + $2::int", 40, 2) == 42
    rows = await connection.fetch("SELECT id, name FROM item ORDER BY id")
    assert [row["name"] for row in rows] == ["lamp", "chair", "desk"]
    await connection.execute("CREATE TABLE work (id int, body text)")
    statement = await connection.prepare("INSERT INTO work VALUES ($1, $2)")
    for number in range(20):
        await statement.fetch(number, "prepared")
    await connection.executemany("INSERT INTO work VALUES ($1, $2)", [(n, "many") for n in range(500)])
    await connection.copy_records_to_table("work", records=[(n, "copied") for n in range(10_000)])
    assert await connection.fetchval("SELECT count(*) FROM work") == 10_520
    async with connection.transaction():
        seen = 0
        async for _ in connection.cursor("SELECT * FROM work", prefetch=1_000):
            seen += 1
        assert seen == 10_520
    try:
        async with connection.transaction():
            await connection.execute("DELETE FROM work")
            raise KeyError
    except KeyError:
        pass
    assert await connection.fetchval("SELECT count(*) FROM work") == 10_520
    # Gives up by a cancel request of its own, and the connection goes on.
    try:
        await connection.fetchval("SELECT pg_sleep(600)", timeout=0.3)
        raise AssertionError("nothing timed out")
    except asyncio.TimeoutError:
        pass
    assert await connection.fetchval("SELECT 'goes on'") == "goes on"
    await connection.close()
    pool = await asyncpg.create_pool(ssl=tls, min_size=4, max_size=4)
    sums = await asyncio.gather(*(pool.fetchval("SELECT $1::int", n) for n in range(200)))
    assert sum(sums) == sum(range(200))
    await pool.close()


asyncio.run(main())
print("done")
