/*
 * emulator_control.h: what tests tell the emulated device.
 */
#ifndef G2_EMULATOR_CONTROL_H
#define G2_EMULATOR_CONTROL_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C"
{
#endif

/* Shuffles the order of threads in every block from here on. */
extern void emu_seed(uint64_t seed);

/* What the device has: a larger allocation fails. */
extern void emu_set_memory(uint64_t bytes);

/* Whether there is memory for graphs. */
extern void emu_allow_graphs(bool allowed);

/* The n-th wait for an event from now on finds the device lost, as all calls after it; 0: it is
 * there again. */
extern void emu_lose_device_at(long event);

#ifdef __cplusplus
}
#endif

#endif							/* G2_EMULATOR_CONTROL_H */
