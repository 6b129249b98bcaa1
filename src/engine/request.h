/*
 * request.h: one request from its arrival to its answer.
 *
 * Phases: its model is waited for; its turn with the helper threads is; one of them turns text into
 * ids or back (owns the fields of "work" meanwhile); a group of it runs.  arrival.c and work.c move
 * it along; request.c knows what the fields of a message mean.
 */
#ifndef G2_REQUEST_H
#define G2_REQUEST_H

#include "decoding.h"
#include "constraint.h"
#include "engine.h"
#include "group.h"
#include "labels.h"
#include "registry.h"
#include "score.h"
#include "split.h"
#include "task.h"

typedef enum g2_request_phase
{
	G2_PHASE_MODEL,				/* waits until its model is loaded */
	G2_PHASE_TURN,				/* waits in its session's list of work */
	G2_PHASE_WORK,				/* on a helper thread, or queued for one */
	G2_PHASE_READY,				/* that is done; waits for those of its session before it */
	G2_PHASE_GROUP				/* its group is with the scheduler */
} g2_request_phase;

typedef struct g2_request
{
	g2_job		job;			/* first */
	struct g2_request *prev;	/* the engine's list, in order of arrival */
	struct g2_request *next;
	struct g2_request *own_prev;	/* its client's list */
	struct g2_request *own_next;
	struct g2_request *work_after;	/* its session's list of work */
	g2_engine  *engine;
	g2_client  *client;			/* NULL: it has left, and nobody listens */
	g2_session *session;		/* held */
	g2_answer_fn answer;
	void	   *owner;			/* answer's first argument */
	uint64_t	id;
	g2_message	type;
	int64_t		arrived_us;		/* monotonic */
	g2_request_phase phase;
	atomic_bool canceled;
	bool		told_loading;	/* the notice about a long load has been sent */
	bool		is_long;		/* WORK: on the helper thread for long ones */
	g2_buf		payload;		/* what the decoded message below points into */
	union
	{
		g2_generate generate;
		g2_score	score;
		g2_tokenize tokenize;
		g2_detokenize detokenize;
		g2_load		load;
		struct
		{
			g2_span		model;
			struct g2_shared_paths *paths;	/* held while a helper thread looks */
		}			check;
	}			m;
	g2_model   *model;			/* held */
	g2_group   *group;			/* NULL while parts run (split) */
	/* work */
	bool		ok;
	g2_error	error;
	g2_ids		ids;			/* of the prompt or text */
	g2_buf		text;			/* of ids */
	uint32_t	max_new;		/* new tokens that the context has room for */
	g2_bias    *biases;			/* [decoding.n_biases]; the group's samplers point at them */
	g2_task		task;			/* GENERATE or SCORE with a task */
	const g2_grammar *grammar;	/* GENERATE with a constraint: held */
	bool		truncated;		/* some of the text was left out */
	g2_split	split;			/* GENERATE of a long text; the engine's thread goes on with it */
	g2_scoring	scoring;		/* SCORE; the engine's thread goes on with it */
	bool		has_key;		/* the answer may be in the result cache, or goes there */
	uint8_t		key[32];		/* then: a G2_HASH */
} g2_request;

/* Decodes the payload; a malformed one is an internal error.  Ranges are checked here, before
 * anything is spent on the request: 22023 and 54000 name the argument and its range. */
extern bool g2_request_decode(g2_request *request, g2_error *err);

/* The device that a LOAD asks for, "cpu" or "cuda"; NULL: any. */
extern const char *g2_request_device(const g2_request *request);

/* The name of the model that it wants, and the weight format (empty = the setting's). */
extern g2_span g2_request_model(const g2_request *request, g2_span *format);

/* OID of the user whose rights count. */
extern uint32_t g2_request_user(const g2_request *request);

/* The helper thread's part: fills the work fields. */
extern void g2_request_work(g2_request *request, g2_grammars *grammars);

/* Frees what the work and the payload hold (not the request, the model or the group). */
extern void g2_request_clear(g2_request *request, g2_grammars *grammars);

/* Ids of a text, appended; at most max_ids (0 = no limit).  Fills request->error. */
extern bool g2_request_encode(g2_request *request, g2_span text, size_t max_ids, g2_ids *ids);

/* The model's start token, appended to the ids; 22023 where it has none.  Fills request->error. */
extern bool g2_request_add_start(g2_request *request, g2_ids *ids);

/* The prompt is these ids (u32, unaligned): 22023 for one that the vocabulary lacks. */
extern bool g2_request_copy_ids(g2_request *request, g2_span ids);

/* The options of the group for a GENERATE or SCORE whose work is done. */
extern void g2_request_group_options(const g2_request *request, g2_group_options *options);

#endif							/* G2_REQUEST_H */
