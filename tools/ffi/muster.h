/*
 * muster's agent within a program: in C, and in whatever calls C.
 *
 * Texts are UTF-8 with a length, and need no zero byte at their end. Numbers that functions return are
 * results: MUSTER_OK, or why not; muster_agent_error says it in words. An agent may be used by several
 * threads at a
 * time, except while it is freed. No function unwinds, and none may be called from a function that it calls,
 * but for muster_answer_write and the muster_task_ ones. The handbook's chapter is `embedding`.
 */
#ifndef MUSTER_H
#define MUSTER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A result. */
enum {
    MUSTER_OK = 0,
    MUSTER_ARGUMENT = 1,    /* what the program says is not allowed */
    MUSTER_STATE = 2,       /* not before the start, or not behind it */
    MUSTER_DIRECTORY = 3,   /* the directory can't be used */
    MUSTER_IDENTITY = 4,    /* the device is not enrolled, or its identity can't be read or written */
    MUSTER_ENROLLED = 5,    /* it is enrolled already */
    MUSTER_ENROLL = 6,      /* the server can't be reached, or did not enrol it */
    MUSTER_RUN = 7,         /* the agent does not begin, or has ended by itself */
    MUSTER_REFUSED = 8,     /* it runs and refuses: no room, no sync */
    MUSTER_ENDED = 9,       /* it has ended */
    MUSTER_NO_ANSWER = 10,  /* it does not answer */
    MUSTER_PANIC = 11       /* a fault of muster itself */
};

/* The condition of an application. */
enum {
    MUSTER_RUNNING = 0,
    MUSTER_STOPPED = 1,
    MUSTER_FAILED = 2,
    MUSTER_UNKNOWN = 3
};

/* The severity of an event. */
enum {
    MUSTER_INFO = 0,
    MUSTER_WARNING = 1,
    MUSTER_ERROR = 2,
    MUSTER_CRITICAL = 3
};

/* Why an agent is stopped: the server is told. */
enum {
    MUSTER_AGENT_STOPPED = 0,
    MUSTER_SHUTDOWN = 1,
    MUSTER_REBOOT = 2
};

/* A text. Empty: bytes may be NULL. */
typedef struct MusterText {
    const char *bytes;
    size_t length;
} MusterText;

/* A text of a literal. */
#define MUSTER_TEXT(literal) { (literal), sizeof(literal) - 1 }

/* An agent; a task that is being done; the words of an answer. */
typedef struct MusterAgent MusterAgent;
typedef struct MusterTask MusterTask;
typedef struct MusterAnswer MusterAnswer;

/* A number that the program tells: NaN when it is not known now. */
typedef struct MusterStatistic {
    MusterText name;
    MusterText unit;
    double (*read)(void *context);
} MusterStatistic;

/* A kind of task, with a JSON Schema of its arguments. The function returns its exit code: 0 when it is done,
 * 75 when it can't be done now; what it writes to the answer is its output. It has a thread of its own. */
typedef struct MusterTaskKind {
    MusterText kind;
    MusterText schema;
    int32_t (*run)(void *context, MusterTask *task, MusterText arguments, MusterAnswer *output);
    /* Whether its tasks come with a file: 0 with none, 1 with any, 2 with one that is signed. */
    int32_t artifact;
} MusterTaskKind;

/* An application of the program. Functions may be NULL. They are called in threads of the agent with a stack
 * of 256 KiB, several of them perhaps at the same time, and not behind muster_agent_free. */
typedef struct MusterApplication {
    MusterText name;
    MusterText version;
    /* Handed to each of its functions. */
    void *context;
    /* Tells its condition, and why it is so. */
    int32_t (*condition)(void *context, MusterAnswer *why);
    /* Takes settings (0), or refuses them with a reason. They are JSON that the schema allows. Called with
     * each change, and with those in force once after each start. */
    MusterText settings_schema;
    int32_t (*settings)(void *context, MusterText settings, MusterAnswer *reason);
    const MusterStatistic *statistics;
    size_t statistics_count;
    const MusterTaskKind *tasks;
    size_t tasks_count;
} MusterApplication;

/* A field of an event. */
typedef struct MusterField {
    MusterText name;
    MusterText value;
} MusterField;

/* An agent whose files are in this directory. `name`: that the device asks for when it enrols; empty: its
 * host name. `wake_port`: the UDP port of wakes, 15000 as a rule; 0: none. `spool_mebibytes`: room for the
 * events of each of four severities, 1 to 1024. Touches no file. */
MusterAgent *muster_agent_new(MusterText directory, MusterText name, uint16_t wake_port,
                              uint32_t spool_mebibytes);

/* Adds an application, before the start. The texts are copied. */
int32_t muster_agent_application(MusterAgent *agent, const MusterApplication *application);

/* Whether the device is known at a server: MUSTER_OK, or MUSTER_IDENTITY when it is to be enrolled. */
int32_t muster_agent_is_enrolled(MusterAgent *agent);

/* Enrols the device at HOST or HOST:PORT with a join token. Blocks for two minutes at most. */
int32_t muster_agent_enroll(MusterAgent *agent, MusterText server, MusterText token);

/* Starts it: threads of its own, in which all signals are blocked. */
int32_t muster_agent_start(MusterAgent *agent);

/* Hands an event over. Behind MUSTER_OK it survives whatever happens to the device, and is delivered once. */
int32_t muster_agent_emit(MusterAgent *agent, MusterText application, int32_t severity, MusterText kind,
                          MusterText message, const MusterField *fields, size_t fields_count);

/* Syncs now, and returns when that is done: within five minutes. */
int32_t muster_agent_sync(MusterAgent *agent);

/* Writes how it is doing, as `muster-agent status --json` does, as far as there is room; *length is that of
 * all of it. */
int32_t muster_agent_status(MusterAgent *agent, char *buffer, size_t size, size_t *length);

/* Ends it, in two seconds at most. */
int32_t muster_agent_stop(MusterAgent *agent, int32_t reason);

/* Writes why the last call failed in this or another thread, as far as there is room; its length. */
size_t muster_agent_error(MusterAgent *agent, char *buffer, size_t size);

/* Ends it when it runs, waits for its threads, and for tasks that are being done; then nothing of the program
 * is called any more. NULL: nothing. */
void muster_agent_free(MusterAgent *agent);

/* Adds to an answer. */
void muster_answer_write(MusterAnswer *answer, MusterText text);

/* Says how far a task is, 0 to 100, and what it is at. */
void muster_task_progress(MusterTask *task, uint8_t percent, MusterText message);

/* 1: the task should end, as it is not wanted any more or its time is up; 0: it should not. Reads a file. */
int32_t muster_task_is_cancelled(MusterTask *task);

/* The path of the file that the task works with, good until the function returns; an empty text when it has
 * none. */
MusterText muster_task_artifact(MusterTask *task);

#ifdef __cplusplus
}
#endif

#endif
