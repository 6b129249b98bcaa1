/*
 * server.h: the engine behind a Unix socket.
 */
#ifndef G2_SERVER_H
#define G2_SERVER_H

#include "engine.h"

typedef struct g2_server_options
{
	int			listen_fd;		/* a listening, non-blocking Unix stream socket */
	int			control_fd;		/* the supervisor's end of a socket pair, or -1 */
	const g2_settings *settings;	/* without a control channel, which sends them otherwise */
} g2_server_options;

/* Serves until SIGTERM, or until the supervisor is gone.  Returns false when it cannot begin. */
extern bool g2_serve(const g2_server_options *options, g2_error *err);

#endif							/* G2_SERVER_H */
