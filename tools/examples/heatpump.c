/*
 * A heat pump with muster's agent inside.
 *
 *     heatpump DIRECTORY SERVER TOKEN-FILE
 *
 * enrols itself at its first start, and then takes lines from its standard input: `sync` syncs, anything else
 * is the message of an event. At the end of its input it is switched off. It prints a line for each.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "muster.h"

static const MusterText APPLICATION = MUSTER_TEXT("heatpump");

/* What the functions share with the pump's own work, which other threads do. */
struct pump {
    atomic_int target_celsius;
};

static MusterText text(const char *string)
{
    MusterText text = { string, strlen(string) };
    return text;
}

static int32_t condition(void *context, MusterAnswer *why)
{
    const struct pump *pump = context;
    char words[64];
    snprintf(words, sizeof words, "heats to %d °C", atomic_load(&pump->target_celsius));
    muster_answer_write(why, text(words));
    return MUSTER_RUNNING;
}

/* The schema has seen to it that there is one number, and nothing else. */
static int32_t take_settings(void *context, MusterText settings, MusterAnswer *reason)
{
    struct pump *pump = context;
    char json[128] = { 0 };
    int celsius;
    const char *colon;
    if (settings.length >= sizeof json)
        return 1;
    memcpy(json, settings.bytes, settings.length);
    colon = strchr(json, ':');
    if (colon == NULL || sscanf(colon + 1, "%d", &celsius) != 1)
        return 1;
    if (celsius > 60) {
        muster_answer_write(reason, text("the pump can't heat to more than 60 °C"));
        return 1;
    }
    atomic_store(&pump->target_celsius, celsius);
    printf("target %d\n", celsius);
    fflush(stdout);
    return 0;
}

static double flow_temperature(void *context)
{
    const struct pump *pump = context;
    return atomic_load(&pump->target_celsius) - 0.5;
}

static int32_t defrost(void *context, MusterTask *task, MusterText arguments, MusterAnswer *output)
{
    (void)context;
    (void)arguments;
    for (int percent = 0; percent <= 100; percent += 20) {
        if (muster_task_is_cancelled(task))
            return 1;
        muster_task_progress(task, (uint8_t)percent, text("melting"));
    }
    muster_answer_write(output, text("no ice left\n"));
    return 0;
}

static const MusterStatistic STATISTICS[] = {
    { MUSTER_TEXT("flow_temperature"), MUSTER_TEXT("°C"), flow_temperature },
};

static const MusterTaskKind TASKS[] = {
    { MUSTER_TEXT("defrost"), MUSTER_TEXT("{\"type\": \"object\"}"), defrost, 0 },
};

static void complain(MusterAgent *agent, const char *what)
{
    char why[512];
    size_t length = muster_agent_error(agent, why, sizeof why);
    if (length > sizeof why)
        length = sizeof why;
    printf("%s: %.*s\n", what, (int)length, why);
    fflush(stdout);
}

/* The first line of a file is the token. */
static int enroll(MusterAgent *agent, const char *server, const char *file)
{
    char token[512];
    FILE *from = fopen(file, "r");
    if (from == NULL || fgets(token, sizeof token, from) == NULL) {
        printf("%s can't be read\n", file);
        if (from != NULL)
            fclose(from);
        return 1;
    }
    fclose(from);
    token[strcspn(token, "\n")] = 0;
    return muster_agent_enroll(agent, text(server), text(token));
}

int main(int count, char **arguments)
{
    struct pump pump = { 20 };
    const MusterApplication application = {
        .name = APPLICATION,
        .version = MUSTER_TEXT("2.1.0"),
        .context = &pump,
        .condition = condition,
        .settings_schema = MUSTER_TEXT("{\"type\": \"object\", \"required\": [\"celsius\"], \"additionalProperties\": "
                                       "false, \"properties\": {\"celsius\": {\"type\": \"integer\"}}}"),
        .settings = take_settings,
        .statistics = STATISTICS,
        .statistics_count = sizeof STATISTICS / sizeof STATISTICS[0],
        .tasks = TASKS,
        .tasks_count = sizeof TASKS / sizeof TASKS[0],
    };
    const MusterField field = { MUSTER_TEXT("circuit"), MUSTER_TEXT("heating") };
    char line[256];
    MusterAgent *agent;
    if (count != 4) {
        fprintf(stderr, "heatpump DIRECTORY SERVER TOKEN-FILE\n");
        return 2;
    }
    /* One MiB for each severity: the writable directory has eight. */
    agent = muster_agent_new(text(arguments[1]), text("heatpump"), 0, 1);
    if (muster_agent_application(agent, &application) != MUSTER_OK
        || (muster_agent_is_enrolled(agent) == MUSTER_IDENTITY
            && enroll(agent, arguments[2], arguments[3]) != MUSTER_OK)
        || muster_agent_start(agent) != MUSTER_OK) {
        complain(agent, "no agent");
        muster_agent_free(agent);
        return 1;
    }
    puts("ready");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        int32_t result;
        line[strcspn(line, "\n")] = 0;
        if (strcmp(line, "sync") == 0)
            result = muster_agent_sync(agent);
        else
            result = muster_agent_emit(agent, APPLICATION, MUSTER_WARNING, text("said"), text(line), &field, 1);
        if (result == MUSTER_OK) {
            puts("ok");
            fflush(stdout);
        } else {
            complain(agent, "refused");
        }
    }
    if (muster_agent_stop(agent, MUSTER_SHUTDOWN) != MUSTER_OK)
        complain(agent, "it had ended");
    muster_agent_free(agent);
    puts("off");
    return 0;
}
