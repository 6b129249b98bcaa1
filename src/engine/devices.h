/*
 * devices.h: the devices of this machine behind one table of backend.h: the CPU, and a CUDA device
 * where gpt2.device asks for one and there is one.  Each model lives on one of them; who schedules
 * need not know which.
 */
#ifndef G2_DEVICES_H
#define G2_DEVICES_H

#include "backend.h"

/* Its open takes g2_backend_options.devices: "auto", "cpu", "cuda" or "cuda:N".  With "cuda" and no
 * such device it opens too: then each load of a model says why it cannot be. */
extern const g2_backend_api g2_devices_backend;

/* "auto", "cpu", "cuda", or "cuda:N" with N below 64, whose number goes to *index (NULL: not asked
 * for). */
extern bool g2_device_name_check(const char *name, uint32_t *index);

/* The CUDA device has failed: what is in flight ends with 58000, and only a new process can open it
 * again. */
extern bool g2_devices_lost(const g2_backend *backend);

#endif							/* G2_DEVICES_H */
