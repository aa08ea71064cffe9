"""On the path of a rehearsed lesson's processes: no name is looked up and no connection made beyond this machine.

What was refused is written to the file REHEARSAL_REFUSED, a line each. With REHEARSAL_GPU, a number of GB, the processes
that run lessons have a pretended GPU of that size; a process that cannot pretend it ends at once.
"""

import os
import socket
import sys
import traceback

HERE = ("127.0.0.1", "::1", "localhost", "", None)
_connect, _look_up = socket.socket.connect, socket.getaddrinfo


def _refuse(host):
    with open(os.environ["REHEARSAL_REFUSED"], "a", encoding="utf-8") as stream:
        stream.write(f"{host}\n")
    raise socket.gaierror(socket.EAI_NONAME, f"the rehearsal refuses {host}")


def connect(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in HERE:
        _refuse(address[0])
    return _connect(self, address)


def look_up(host, *arguments, **options):
    name = host.decode() if isinstance(host, bytes) else host
    if isinstance(name, str) and name.endswith(".127.0.0.1"):  # the hub's dataset viewer
        host = name = "127.0.0.1"
    if name not in (*HERE, "0.0.0.0", socket.gethostname()):
        _refuse(name)
    return _look_up(host, *arguments, **options)


socket.socket.connect, socket.getaddrinfo = connect, look_up

if "REHEARSAL_GPU" in os.environ and "course_utils" not in sys.orig_argv:  # `python -m course_utils` only starts others
    try:
        from course_utils.maintain.rehearsal.models_alive import watched
        from course_utils.maintain.rehearsal.pretended_gpu import pretended_gpu

        gpu_gb = float(os.environ["REHEARSAL_GPU"])
        until_the_end = [pretended_gpu(gpu_gb), watched(gpu_gb)]
        for block in until_the_end:
            block.__enter__()
    except BaseException:  # Python would go on without this file
        traceback.print_exc()
        os._exit(1)
