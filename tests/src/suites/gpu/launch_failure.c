// Makes kernel launches and stream synchronisations of this process fail, as after a fault on the GPU, once the file
// $C3_GPU_FAULTS/<process id> exists. Loaded with LD_PRELOAD: the library cudarc looks up the driver's functions with
// dlsym.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CUDA_ERROR_LAUNCH_FAILED = 719 };

typedef int Launch(const void *config, void *function, void **arguments, void **extra);
typedef int LaunchGraph(void *graph, void *stream);
typedef int Synchronize(void *stream);
typedef void *Lookup(void *library, const char *name);

static Launch *driver_launch;
static LaunchGraph *driver_launch_graph;
static Synchronize *driver_synchronize;

// A failed context stays failed.
static int has_failed(void) {
    static atomic_int failed;
    const char *folder = getenv("C3_GPU_FAULTS");
    char path[4096];
    if (!failed && folder && snprintf(path, sizeof path, "%s/%d", folder, getpid()) < (int)sizeof path)
        failed = access(path, F_OK) == 0;
    return failed;
}

static int launch(const void *config, void *function, void **arguments, void **extra) {
    return has_failed() ? CUDA_ERROR_LAUNCH_FAILED : driver_launch(config, function, arguments, extra);
}

static int launch_graph(void *graph, void *stream) {
    return has_failed() ? CUDA_ERROR_LAUNCH_FAILED : driver_launch_graph(graph, stream);
}

static int synchronize(void *stream) {
    return has_failed() ? CUDA_ERROR_LAUNCH_FAILED : driver_synchronize(stream);
}

void *dlsym(void *library, const char *name) {
    // The C library exports dlsym under several versions, depending on its own version and on the architecture.
    static const char *const versions[] = {"GLIBC_2.34", "GLIBC_2.2.5", "GLIBC_2.17"};
    static Lookup *lookup;
    for (size_t i = 0; !lookup && i < sizeof versions / sizeof *versions; i++)
        lookup = (Lookup *)dlvsym(RTLD_NEXT, "dlsym", versions[i]);
    if (!lookup)
        abort();
    void *found = lookup(library, name);
    if (found && strcmp(name, "cuLaunchKernelEx") == 0) {
        driver_launch = (Launch *)found;
        return (void *)launch;
    }
    if (found && strcmp(name, "cuGraphLaunch") == 0) {
        driver_launch_graph = (LaunchGraph *)found;
        return (void *)launch_graph;
    }
    if (found && strcmp(name, "cuStreamSynchronize") == 0) {
        driver_synchronize = (Synchronize *)found;
        return (void *)synchronize;
    }
    return found;
}
