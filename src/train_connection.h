/*
 * train_connection.h: a backend's connection to the process that trains for it.
 */
#ifndef GPT2_TRAIN_CONNECTION_H
#define GPT2_TRAIN_CONNECTION_H

#include "wire.h"

#include "engine/protocol_train.h"

/* Connects, and starts the supervisor where none runs; the process that answers is this backend's
 * alone.  HELLO is on its way.  Interruptible; raises an error when nobody answers. */
extern void gpt2_train_connect(void);

extern bool gpt2_train_is_connected(void);

/* Ends the connection, and with it the training.  May be called at any time. */
extern void gpt2_train_disconnect(void);

/* Queues a frame, and waits while much is unsent.  What the process says meanwhile is dealt with:
 * notices are raised, and so is an error. */
extern void gpt2_train_send(int type, const g2_writer *payload);

/* Waits for a frame of this type; its payload is valid until the next call.  Raises notices and
 * errors as they come; 58000 when the process ends. */
extern const char *gpt2_train_receive(int type, size_t *len);

#endif							/* GPT2_TRAIN_CONNECTION_H */
