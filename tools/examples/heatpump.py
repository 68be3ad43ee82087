"""A heat pump with muster's agent inside, by way of ctypes.

    heatpump.py LIBRARY DIRECTORY SERVER TOKEN

enrols itself at its first start, syncs, emits an event and prints how the agent is doing.
"""

import ctypes
import sys

OK, IDENTITY, RUNNING, WARNING, SHUTDOWN = 0, 4, 0, 1, 1


class Text(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_char_p), ("length", ctypes.c_size_t)]


def text(string):
    encoded = string.encode()
    return Text(encoded, len(encoded))


CONDITION = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)
SETTINGS = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, Text, ctypes.c_void_p)


class Application(ctypes.Structure):
    _fields_ = [
        ("name", Text),
        ("version", Text),
        ("context", ctypes.c_void_p),
        ("condition", CONDITION),
        ("settings_schema", Text),
        ("settings", SETTINGS),
        ("statistics", ctypes.c_void_p),
        ("statistics_count", ctypes.c_size_t),
        ("tasks", ctypes.c_void_p),
        ("tasks_count", ctypes.c_size_t),
    ]


def main(library, directory, server, token):
    muster = ctypes.CDLL(library)
    muster.muster_agent_new.restype = ctypes.c_void_p
    muster.muster_agent_new.argtypes = [Text, Text, ctypes.c_uint16, ctypes.c_uint32]
    muster.muster_agent_error.restype = ctypes.c_size_t
    muster.muster_answer_write.argtypes = [ctypes.c_void_p, Text]

    @CONDITION
    def condition(_context, why):
        muster.muster_answer_write(why, text("all is well"))
        return RUNNING

    agent = ctypes.c_void_p(muster.muster_agent_new(text(directory), text("snake"), 0, 1))

    def check(result):
        if result != OK:
            why = ctypes.create_string_buffer(512)
            length = muster.muster_agent_error(agent, why, ctypes.c_size_t(len(why)))
            sys.exit(why.raw[: min(length, len(why))].decode())

    # The functions must live as long as the agent does: they are Python's.
    pump = Application(text("heatpump"), text("3.0.0"), None, condition, text(""), SETTINGS(), None, 0, None, 0)
    check(muster.muster_agent_application(agent, ctypes.byref(pump)))
    if muster.muster_agent_is_enrolled(agent) == IDENTITY:
        check(muster.muster_agent_enroll(agent, text(server), text(token)))
    check(muster.muster_agent_start(agent))
    check(muster.muster_agent_sync(agent))
    event = text("heatpump"), WARNING, text("said"), text("héllo"), None, ctypes.c_size_t(0)
    check(muster.muster_agent_emit(agent, *event))
    status, length = ctypes.create_string_buffer(64 * 1024), ctypes.c_size_t()
    check(muster.muster_agent_status(agent, status, ctypes.c_size_t(len(status)), ctypes.byref(length)))
    print(status.raw[: min(length.value, len(status))].decode())
    check(muster.muster_agent_stop(agent, SHUTDOWN))
    muster.muster_agent_free(agent)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("heatpump.py LIBRARY DIRECTORY SERVER TOKEN")
    main(*sys.argv[1:])
