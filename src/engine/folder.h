/*
 * folder.h: what folder.c offers to the other files of model.h, beyond model.h itself.
 */
#ifndef G2_FOLDER_H
#define G2_FOLDER_H

#include "util.h"

/* Why a folder has no weights that can be read; always false. */
extern bool g2_folder_fail_weights(const char *folder, g2_error *err);

/* The folder can be searched and holds a config.json; otherwise says what is there instead. */
extern bool g2_folder_check(const char *folder, g2_error *err);

#endif							/* G2_FOLDER_H */
