"""A program that uses asyncssh as its documentation shows: commands side by side, one file up and down.

Arguments: port, user name, private key, local file, remote file, file to download into.
"""

import asyncio
import sys

import asyncssh


async def main() -> None:
    port, user, key, local, remote, back = sys.argv[1:]
    async with asyncssh.connect(
        "127.0.0.1", int(port), username=user, client_keys=[key], known_hosts=None, agent_path=None
    ) as connection:
        commands = [f"echo asyncssh-$(({number} + 40))" for number in (1, 2, 3)]
        for result in await asyncio.gather(*(connection.run(command) for command in commands)):
            sys.stdout.write(result.stdout)
            sys.stderr.write(result.stderr)
            if result.exit_status != 0:
                sys.exit(1)
        async with connection.start_sftp_client() as sftp:
            await sftp.put(local, remote)
            await sftp.get(remote, back)


asyncio.run(main())
