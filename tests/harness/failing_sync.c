/* Loaded into a broker (LD_PRELOAD): once the file that FAIL_SYNC_WHEN names is there, the next fdatasync of a segment
   answers EIO without syncing, and removes the file. Every later one succeeds, as on Linux a second sync after a failed
   one does, though the first one's data is lost. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int fdatasync(int fd) {
  static int (*next)(int);
  if (!next) next = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  const char *trigger = getenv("FAIL_SYNC_WHEN");
  if (length > 4 && trigger && !memcmp(path + length - 4, ".log", 4) && unlink(trigger) == 0) {
    errno = EIO;
    return -1;
  }
  return next(fd);
}
