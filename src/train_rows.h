/*
 * train_rows.h: the query of a training, read row by row.
 */
#ifndef GPT2_TRAIN_ROWS_H
#define GPT2_TRAIN_ROWS_H

#include "postgres.h"

/*
 * Runs the query through a cursor, under one snapshot and with the rights of the current user, and
 * sends its rows to the process that trains.  42804 for columns that are no texts.
 */
extern void gpt2_train_send_rows(const char *query);

#endif							/* GPT2_TRAIN_ROWS_H */
