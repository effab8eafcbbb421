/* A stub of pyxis (github.com/NVIDIA/pyxis) for tests: a SPANK plugin that knows the options that we use.
 *
 * Without an image that is a directory it starts no container: it only shows every task what it was given,
 * as PYXIS_STUB_IMAGE, _MOUNTS, _WORKDIR and _NO_HOME. With --container-image=/DIRECTORY it runs the task
 * in there: private mount namespace, bind mounts, chroot. It proves options, mounts and paths; nothing about
 * enroot, importing images or an image's entry point.
 *
 * gcc -shared -fPIC -o pyxis_stub.so pyxis_stub.c        (headers: libslurm-dev)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <slurm/slurm.h>
#include <slurm/spank.h>

SPANK_PLUGIN(pyxis_stub, 1)

enum { IMAGE, MOUNTS, WORKDIR, NO_HOME, COUNT };

static struct option_entry {
    const char *name, *argument, *variable;
    char *given;
} entries[COUNT] = {
    [IMAGE] = {"container-image", "IMAGE", "PYXIS_STUB_IMAGE", NULL},
    [MOUNTS] = {"container-mounts", "SOURCE:TARGET[:FLAGS],...", "PYXIS_STUB_MOUNTS", NULL},
    [WORKDIR] = {"container-workdir", "PATH", "PYXIS_STUB_WORKDIR", NULL},
    [NO_HOME] = {"no-container-mount-home", NULL, "PYXIS_STUB_NO_HOME", NULL},
};

static int take(int which, const char *argument, int remote)
{
    (void)remote;
    free(entries[which].given);
    entries[which].given = strdup(entries[which].argument ? argument : "1");
    return entries[which].given ? ESPANK_SUCCESS : ESPANK_ERROR;
}

int slurm_spank_init(spank_t spank, int argc, char **argv)
{
    (void)argc, (void)argv;
    for (int i = 0; i < COUNT; i++) {
        struct spank_option option = {(char *)entries[i].name, (char *)entries[i].argument,
                                      "[pyxis stub]", entries[i].argument != NULL, i, take};
        if (spank_option_register(spank, &option) != ESPANK_SUCCESS)
            return ESPANK_ERROR;
    }
    return ESPANK_SUCCESS;
}

static int is_directory(const char *path)
{
    struct stat found;
    return path && path[0] == '/' && stat(path, &found) == 0 && S_ISDIR(found.st_mode);
}

/* mkdir -p */
static int make_folders(const char *path)
{
    char part[PATH_MAX];
    for (size_t i = 1; path[i - 1] != '\0'; i++)
        if (path[i] == '/' || path[i] == '\0') {
            snprintf(part, sizeof part, "%.*s", (int)i, path);
            if (mkdir(part, 0755) && errno != EEXIST)
                return -1;
        }
    return 0;
}

static int bind_folder(const char *root, const char *source, const char *target)
{
    char inside[PATH_MAX];
    snprintf(inside, sizeof inside, "%s%s", root, target);
    if (make_folders(inside) || mount(source, inside, NULL, MS_BIND | MS_REC, NULL)) {
        slurm_error("pyxis stub: cannot mount %s on %s: %m", source, inside);
        return -1;
    }
    return 0;
}

static int bind_all(const char *root, char *mounts)
{
    char *rest = mounts, *entry;
    while ((entry = strsep(&rest, ",")) != NULL) {
        char *source = strsep(&entry, ":"), *target = strsep(&entry, ":");
        if (bind_folder(root, source, target ? target : source))
            return -1;
    }
    return 0;
}

int slurm_spank_task_init_privileged(spank_t spank, int argc, char **argv)
{
    (void)argc, (void)argv;
    uint32_t step = SLURM_BATCH_SCRIPT;
    const char *root = entries[IMAGE].given;
    spank_get_item(spank, S_JOB_STEPID, &step);
    if (step == SLURM_BATCH_SCRIPT || !is_directory(root))
        return 0;
    if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL)) {
        slurm_error("pyxis stub: no mount namespace: %m");
        return -1;
    }
    if (bind_folder(root, "/proc", "/proc") || bind_folder(root, "/dev", "/dev"))
        return -1;
    if (entries[MOUNTS].given && bind_all(root, strdup(entries[MOUNTS].given)))
        return -1;
    if (chroot(root)) {
        slurm_error("pyxis stub: chroot %s: %m", root);
        return -1;
    }
    return chdir("/");
}

int slurm_spank_task_init(spank_t spank, int argc, char **argv)
{
    (void)argc, (void)argv;
    for (int i = 0; i < COUNT; i++)
        if (entries[i].given)
            spank_setenv(spank, entries[i].variable, entries[i].given, 1);
    if (is_directory("/proc") && entries[IMAGE].given && entries[WORKDIR].given && entries[IMAGE].given[0] == '/')
        return chdir(entries[WORKDIR].given);
    return 0;
}
