"""Functions for the scripts that test Tokenry with other programs: `certificate` creates a certificate,
`running` starts a program, and `tls_front` starts nginx as a TLS front of a server.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time

WAIT = 20  # The time that a program may take to start, in seconds.

# nginx needs these settings to run in the foreground, with all its files in one directory.
NGINX = """
daemon off;
pid nginx.pid;
error_log stderr;
{user}
events {{}}
http {{
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
{servers}
}}
"""

FRONT = """
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate certificate.pem;
        ssl_certificate_key key.pem;
        # API Gateway also rejects requests for another host.
        if ($http_host !~ "^(localhost|127\\.0\\.0\\.1)(:{port})?$") {{ return 403; }}
        location / {{
            proxy_pass {target};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-Proto https;
        }}
    }}
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def program(name):
    """Returns the path of a program. Exits if the program is not installed."""
    path = os.environ["PATH"] + ":/usr/sbin"
    return shutil.which(name, path=path) or sys.exit(f"{name} is not installed")


def certificate(directory):
    """Creates `certificate.pem` and `key.pem` for 127.0.0.1 and localhost. Returns the path of the certificate.

    127.0.0.1 is also a DNS name in the certificate, because nginx compares only DNS names.
    """
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1,DNS:127.0.0.1"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE",
         "-keyout", "key.pem", "-out", "certificate.pem"],
        cwd=directory, check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return directory / "certificate.pem"


@contextlib.contextmanager
def running(command, port, directory, environment=None):
    """Starts a program and waits until it listens on the port. Stops it at the end of the `with` block."""
    command = [str(each) for each in command]
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=directory, env=os.environ | (environment or {}), stdout=log, stderr=log)
    try:
        for _ in range(WAIT * 10):
            if process.poll() is not None:
                log = (directory / "log").read_text()
                sys.exit(f"{command} ended with the exit code {process.returncode}\n{log}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        else:
            sys.exit(f"{command} does not listen on port {port}")
        yield
    finally:
        process.terminate()
        process.wait()


def nginx(directory, servers):
    """Writes a configuration with these `server` blocks. Returns the command that starts nginx."""
    # Without this line, the processes of nginx that handle requests run as the user `nobody`.
    user = "user root;" if os.getuid() == 0 else ""
    (directory / "nginx.conf").write_text(NGINX.format(user=user, servers=servers))
    return [program("nginx"), "-p", directory, "-c", "nginx.conf", "-e", "stderr"]


@contextlib.contextmanager
def tls_front(directory, port, target):
    """Starts a TLS front of the server at the URL `target`. `directory` contains the certificate."""
    with running(nginx(directory, FRONT.format(port=port, target=target)), port, directory):
        yield
