"""A program that uses paramiko as its documentation shows: one command, one file up, the same file down.

Arguments: port, user name, private key, local file, remote file, file to download into.
"""

import sys

import paramiko

port, user, key, local, remote, back = sys.argv[1:]
client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect(
    "127.0.0.1",
    port=int(port),
    username=user,
    pkey=paramiko.Ed25519Key.from_private_key_file(key),
    allow_agent=False,
    look_for_keys=False,
    timeout=30,
)
try:
    _, stdout, stderr = client.exec_command("echo paramiko-$((40 + 2))")
    said = stdout.read().decode()
    sys.stdout.write(said)
    sys.stderr.write(stderr.read().decode())
    if stdout.channel.recv_exit_status() != 0:
        sys.exit(1)
    with client.open_sftp() as sftp:
        sftp.put(local, remote)
        sftp.get(remote, back)
finally:
    client.close()
