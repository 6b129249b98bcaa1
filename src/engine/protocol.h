/*
 * protocol.h: what backends, supervisor and engine say to each other.  This, protocol_score.h for
 * scores, and protocol_watch.h for what can be seen of the engine and its settings, are the only
 * headers of the engine that the PostgreSQL side includes; protocol*.c are compiled into both.
 *
 * Transport: a Unix stream socket at G2_SOCKET_PATH (relative to the data directory, which is
 * everybody's working directory), and a socket pair between supervisor and engine (descriptor
 * G2_CONTROL_FD of the engine).  Both carry frames: g2_frame, then `length` bytes of payload.
 * Numbers are in the machine's byte order: both ends are on one machine.  A string is a u32
 * length and its bytes, UTF-8 unless said otherwise, without a NUL.
 *
 * Versions: another major is refused in the handshake.  Within a major, a payload is extended at
 * its end only: a reader ignores what follows the fields it knows, and fields that an older writer
 * did not send read as zero.  Elements that a count announces must be there.
 *
 * Conversation: the backend sends HELLO, the engine answers WELCOME or ERROR.  Then requests in
 * any number, each with an id that the backend chooses and does not use twice; each is answered
 * by exactly one final message (ERROR, ROLES or the type stated below), before which NOTICE and
 * STREAM may come.  CANCEL has no answer of its own; the request it names may still be answered,
 * or not.  A closed socket cancels everything.
 *
 * Who asks: SESSION says it (id 0, no answer), before the first request and whenever it changes.
 * A model that only some roles may use answers ROLES instead of working; the backend, which knows
 * who is a member of what, sends ACCESS (id 0, no answer) and the request again.
 *
 * What goes on: PROGRESS says how far long work of the backend is, which is shown until it says that
 * it has ended or the socket is closed.  PARK says that the backend waits for none of its requests,
 * as between two FETCHes of a cursor: they go on only as long as nobody else needs their room.
 */
#ifndef G2_PROTOCOL_H
#define G2_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define G2_VERSION "1.0.0"
#define G2_PROTOCOL_MAGIC 0x32545047u	/* "GPT2" */
#define G2_PROTOCOL_MAJOR 1
#define G2_PROTOCOL_MINOR 0

#define G2_SOCKET_PATH "pg_stat_tmp/gpt2_engine.sock"
#define G2_LOCK_PATH "pg_stat_tmp/gpt2_engine.lock"
#define G2_ENGINE_PROGRAM "gpt2_engine"
#define G2_LISTEN_FD 3
#define G2_CONTROL_FD 4

/* Bounds that both sides check. */
#define G2_MAX_PAYLOAD (64u << 20)	/* bytes of a frame's payload */
#define G2_MAX_TEXT (32u << 20)		/* bytes of one text in a request */
#define G2_MAX_STOPS 64
#define G2_MAX_STOP_BYTES 1024
#define G2_MAX_CONSTRAINT 65536	/* bytes of a choice, regex or schema */
#define G2_MAX_SEQUENCES 256		/* n of one request */
#define G2_MAX_NEW_TOKENS (1u << 20)
#define G2_MAX_IN_FLIGHT 4096		/* requests of one connection */
#define G2_MAX_BIASES 1024
#define G2_BIAS_BYTES (sizeof(uint32_t) + sizeof(float))	/* id, bias */
#define G2_MAX_BIAS 100			/* and least, -100; of penalties too */
#define G2_MAX_TOKEN_ID ((1u << 18) - 1)	/* of any model */
#define G2_MAX_NGRAM 1024
#define G2_MAX_BEAMS 64
#define G2_MAX_LENGTH_PENALTY 10	/* and least, -10 */

typedef struct g2_frame
{
	uint32_t	length;			/* of the payload */
	uint16_t	type;			/* g2_message */
	uint16_t	reserved;		/* 0 */
	uint64_t	id;				/* the request's; 0 in the handshake and on the control channel */
} g2_frame;

typedef enum g2_message
{
	/* handshake */
	G2_MSG_HELLO = 1,			/* g2_hello */
	G2_MSG_WELCOME,				/* g2_welcome */
	/* answers to any request */
	G2_MSG_ERROR,				/* g2_error_message */
	G2_MSG_NOTICE,				/* g2_notice; not final */
	G2_MSG_DONE,				/* no payload */
	G2_MSG_GOODBYE,				/* the engine ends in good order; id 0, no payload: what is not
								 * answered is to be sent to the next one */
	G2_MSG_ROLES,				/* g2_roles: the model is for members of these roles */
	G2_MSG_STREAM,				/* g2_stream: one new token of a GENERATE with G2_GEN_STREAM; not
								 * final */
	/* requests, each with its answer */
	G2_MSG_CANCEL = 16,			/* no payload; id of the request to end; no answer */
	G2_MSG_GENERATE,			/* g2_generate -> COMPLETIONS */
	G2_MSG_COMPLETIONS,			/* g2_completions_head, then n g2_completion */
	G2_MSG_TOKENIZE,			/* g2_tokenize -> TOKENS */
	G2_MSG_TOKENS,				/* g2_tokens */
	G2_MSG_DETOKENIZE,			/* g2_detokenize -> TEXT */
	G2_MSG_TEXT,				/* one string */
	G2_MSG_LOAD,				/* g2_load -> DONE, when loaded */
	G2_MSG_UNLOAD,				/* one string: the model's name -> DONE */
	G2_MSG_MODELS,				/* no payload -> MODEL_LIST */
	G2_MSG_MODEL_LIST,			/* u32 count, then so many g2_model_row: what the engine has
								 * loaded, is loading or failed to load */
	G2_MSG_INFO,				/* no payload -> INFO_ROW */
	G2_MSG_INFO_ROW,			/* g2_info */
	G2_MSG_SESSION,				/* g2_session_message; id 0, no answer */
	G2_MSG_ACCESS,				/* g2_access; id 0, no answer */
	G2_MSG_REQUESTS,			/* no payload -> REQUEST_LIST */
	G2_MSG_REQUEST_LIST,		/* u32 count, then so many g2_request_row */
	G2_MSG_USAGE,				/* no payload -> USAGE_LIST */
	G2_MSG_USAGE_LIST,			/* u32 count, then so many g2_usage_row */
	G2_MSG_USAGE_RESET,			/* no payload -> DONE: all counters are zero */
	G2_MSG_ENGINE,				/* no payload -> ENGINE_LIST */
	G2_MSG_ENGINE_LIST,			/* u32 count, then so many g2_engine_row */
	G2_MSG_RESTART,				/* no payload -> DONE; then the engine ends in good order */
	G2_MSG_SCORE,				/* g2_score -> SCORES (protocol_score.h) */
	G2_MSG_SCORES,
	G2_MSG_PROGRESS,			/* g2_progress_row; id 0, no answer */
	G2_MSG_PROGRESSES,			/* no payload -> PROGRESS_LIST */
	G2_MSG_PROGRESS_LIST,		/* u32 count, then so many g2_progress_row */
	G2_MSG_PARK,				/* u32: 1 = nobody waits for the client's requests, 0 = somebody does,
								 * as at first; id 0, no answer */
	G2_MSG_CHECK_MODEL = 60,	/* one string: the model's name -> MODEL_CHECK */
	G2_MSG_MODEL_CHECK,			/* u32 count, then so many g2_check_row */
	/* control channel */
	G2_MSG_SETTINGS = 64,		/* supervisor -> engine: g2_settings; first, and on reload */
	G2_MSG_READY,				/* engine -> supervisor: it accepts connections */
	G2_MSG_LOG,					/* engine -> supervisor: g2_notice, for the server log */
	G2_MSG_IDLE					/* engine -> supervisor: it ends now because nobody has needed it;
								 * start another when somebody connects */
} g2_message;

/* A string or array inside a payload; data is not NUL-terminated and belongs to the payload. */
typedef struct g2_span
{
	const char *data;
	uint32_t	len;
} g2_span;

/* Writer: appends to memory that `grow` enlarges (realloc's contract: NULL = no memory, which
 * sets failed; a grow that longjmps is fine too). */
typedef struct g2_writer
{
	char	   *data;
	size_t		len;
	size_t		cap;
	bool		failed;
	void	   *(*grow) (void *data, size_t bytes);
} g2_writer;

/* Reader over one payload.  A read behind the end gives zero or an empty span; a string that
 * reaches beyond the end sets failed, which is looked at once, after the last read. */
typedef struct g2_reader
{
	const char *at;
	const char *end;
	bool		failed;
} g2_reader;

extern void g2_put(g2_writer *w, const void *p, size_t n);
extern void g2_put_u8(g2_writer *w, uint8_t v);
extern void g2_put_u32(g2_writer *w, uint32_t v);
extern void g2_put_u64(g2_writer *w, uint64_t v);
extern void g2_put_f64(g2_writer *w, double v);
extern void g2_put_span(g2_writer *w, g2_span s);
extern void g2_put_string(g2_writer *w, const char *s);	/* NUL-terminated; NULL = empty */
extern void g2_put_names(g2_writer *w, const g2_span *names, uint32_t n);

extern g2_reader g2_read(const void *payload, size_t len);
/* n bytes; cut short they are a failure, absent they read as zero. */
extern void g2_get(g2_reader *r, void *to, size_t n);
extern uint8_t g2_get_u8(g2_reader *r);
extern uint32_t g2_get_u32(g2_reader *r);
extern uint64_t g2_get_u64(g2_reader *r);
extern double g2_get_f64(g2_reader *r);
extern g2_span g2_get_span(g2_reader *r);
/* An element of an array: its count has announced it, so it must be there. */
extern g2_span g2_get_element(g2_reader *r);
/* How many there are; more than max are a failure. */
extern uint32_t g2_get_names(g2_reader *r, g2_span *names, uint32_t max);
/* count u32 values, as bytes (payloads are not aligned). */
extern const char *g2_get_ids(g2_reader *r, uint32_t count);

/* A frame is begun, its payload written, and ended; begin returns what end wants.  False from end:
 * no memory, or the payload is over G2_MAX_PAYLOAD; the frame is taken off again. */
extern size_t g2_frame_begin(g2_writer *w, g2_message type, uint64_t id);
extern bool g2_frame_end(g2_writer *w, size_t begin);

/* ---- handshake ---- */

typedef struct g2_hello
{
	uint32_t	magic;
	uint32_t	major;
	uint32_t	minor;
	uint32_t	pid;			/* the backend's */
	uint32_t	database;		/* OID */
	uint32_t	session_user;	/* OID */
	g2_span		library_version;
} g2_hello;

typedef struct g2_welcome
{
	uint32_t	major;
	uint32_t	minor;
	uint32_t	pid;			/* the engine's */
	g2_span		engine_version;
} g2_welcome;

/* The limits of a role, in the order of the settings gpt2.max_tokens_per_call,
 * max_concurrent_sequences, max_tokens_per_minute. */
typedef enum g2_limit
{
	G2_LIMIT_CALL, G2_LIMIT_SEQUENCES, G2_LIMIT_MINUTE, G2_N_LIMITS
} g2_limit;

#define G2_UNLIMITED (-1)
#define G2_LIMIT_UNSET (-2)		/* nothing is set for the role: the settings' value counts */

typedef struct g2_session_message
{
	uint32_t	session_user;	/* OID */
	g2_span		user_name;		/* its name, for messages */
	int64_t		limits[G2_N_LIMITS];	/* G2_LIMIT_UNSET, G2_UNLIMITED, or >= 0 */
	uint32_t	timeline;		/* of the server now: usage is counted for it; 0 = not said */
} g2_session_message;

/* The current user is a member of what `roles` named; forgotten with the next SESSION. */
typedef struct g2_access
{
	g2_span		model;
	uint32_t	current_user;	/* OID */
	uint64_t	token;			/* of g2_roles */
} g2_access;

/* ---- answers ---- */

#define G2_MAX_OWN_JSON 65536		/* bytes of a model's gpt2.json */
#define G2_MAX_ROLES 256		/* of one model */

/* The role that a model belongs to.  In the cluster that wrote it the OID says which, so that it may
 * be renamed, and a new role of its name is another; elsewhere the name does. */
typedef struct g2_owner
{
	g2_span		name;			/* empty: the model belongs to none */
	uint32_t	oid;			/* 0 = not said, as the next */
	uint64_t	cluster;		/* system identifier */
} g2_owner;

typedef struct g2_roles
{
	uint64_t	token;			/* of this list of roles; never 0 */
	uint32_t	n;
	g2_span		roles[G2_MAX_ROLES];	/* names */
	g2_owner	owner;			/* who may use the model, too */
} g2_roles;

typedef struct g2_error_message
{
	char		sqlstate[6];
	g2_span		message;
	g2_span		detail;			/* empty = none */
	g2_span		hint;
	uint32_t	of_options;		/* what is wrong is wrong whatever the row's text is */
} g2_error_message;

typedef enum g2_level
{
	G2_LEVEL_DEBUG = 1, G2_LEVEL_LOG, G2_LEVEL_NOTICE, G2_LEVEL_WARNING
} g2_level;

typedef struct g2_notice
{
	uint32_t	level;			/* g2_level */
	g2_span		message;
	g2_span		hint;
} g2_notice;

/* ---- generation ---- */

enum							/* g2_generate.flags */
{
	G2_GEN_MAX_LENGTH = 1,		/* max_new counts prompt + new tokens (transformers' max_length) */
	G2_GEN_LOGPROBS = 2,		/* fill g2_completion.logprob */
	G2_GEN_PROMPT_IDS = 4,		/* prompt is an array of u32 ids, not text */
	G2_GEN_NO_STOP_DEFAULTS = 8,	/* an empty stop list means none, not the task's */
	G2_GEN_STREAM = 16,			/* STREAM for each token as it is made (n = 1 only) */
	G2_GEN_SEEDED = 32,			/* seed was given by the user: the same call has the same answer */
	G2_GEN_NO_CACHE = 64,		/* neither reads nor fills prefix and result caches */
	G2_GEN_ADD_START = 128,	/* the model's start token stands before the prompt */
	/* A text that does not fit into the context, which is an error otherwise: */
	G2_GEN_TRUNCATE_LEFT = 1 << 16,	/* loses its beginning */
	G2_GEN_TRUNCATE_RIGHT = 1 << 17,	/* loses its end */
	G2_GEN_SPLIT = 1 << 18,		/* is summarized in parts, and so are these (n = 1 only) */
	G2_GEN_PARTS = 1 << 19,		/* the text goes on: its parts that are complete are summarized, and
								 * COMPLETIONS has their summaries, a line each, in one completion
								 * without ids, then u64: how many bytes of the text these are */
	G2_GEN_LAST = 1 << 20		/* with PARTS: the text ends here, the rest of it is a part too */
};

/* How tokens are chosen beside temperature and its like.  Zero is off, as an older backend has it;
 * the SQL reference says what each does. */
typedef struct g2_decoding
{
	double		typical_p;		/* (0, 1], 1 = off; 0 = off */
	double		presence_penalty;	/* -G2_MAX_BIAS .. G2_MAX_BIAS */
	double		frequency_penalty;
	uint32_t	no_repeat_ngram;	/* 0 .. G2_MAX_NGRAM */
	uint32_t	min_new;		/* tokens before which the end token is not chosen */
	uint32_t	n_beams;		/* 0 or 1: no beam search; temperature is 0, n is at most this */
	double		length_penalty;
	uint32_t	n_biases;
	const char *biases;			/* n_biases pairs of u32 id (ascending, none twice) and float, unaligned:
								 * -G2_MAX_BIAS .. G2_MAX_BIAS */
} g2_decoding;

/* What the text has to be; the constraint's own text says it. */
typedef enum g2_constraint_kind
{
	G2_CONSTRAINT_NONE,
	G2_CONSTRAINT_CHOICE,		/* a JSON array of strings: one of them */
	G2_CONSTRAINT_REGEX,		/* a regular expression: the whole text matches */
	G2_CONSTRAINT_SCHEMA,		/* a JSON schema: the text is JSON that it allows */
	G2_N_CONSTRAINTS
} g2_constraint_kind;

typedef struct g2_generate
{
	g2_span		model;			/* name */
	g2_span		prompt;
	uint32_t	max_new;		/* new tokens at most; 0 = 22023 */
	uint32_t	n;				/* sequences, 1 .. G2_MAX_SEQUENCES */
	uint32_t	flags;
	double		temperature;	/* 0 = greedy (n = 1 only), or a beam search */
	uint32_t	top_k;			/* 0 = off */
	double		top_p;			/* (0, 1], 1 = off */
	double		min_p;			/* [0, 1], 0 = off */
	double		repetition_penalty;	/* > 0, 1 = off */
	uint64_t	seed;
	uint32_t	n_stops;
	g2_span		stops[G2_MAX_STOPS];
	g2_span		task;			/* a template of the model's gpt2.json by name, or empty */
	g2_span		template_text;	/* a template with {input}; wins over task's; empty = none */
	uint32_t	current_user;	/* OID; with database and salt, whose caches it may share */
	g2_span		cache_salt;
	uint32_t	queue_timeout_ms;	/* 0 = waits as long as it takes */
	g2_decoding decoding;
	uint32_t	constraint_kind;	/* g2_constraint_kind; with one, there are no stops */
	g2_span		constraint;
} g2_generate;

typedef enum g2_finish
{
	G2_FINISH_LENGTH = 1, G2_FINISH_STOP, G2_FINISH_EOS
} g2_finish;

typedef struct g2_completions_head
{
	uint32_t	n;
	uint32_t	prompt_tokens;
	uint32_t	cached_tokens;
	uint64_t	seed;
	uint64_t	elapsed_us;		/* from the request's arrival to its answer */
	uint64_t	queue_us;		/* of it, until it was first admitted */
	uint32_t	marks;			/* G2_HEAD_* */
} g2_completions_head;

enum							/* g2_completions_head.marks */
{
	G2_HEAD_RESULT_HIT = 1,		/* the answer comes from the result cache */
	G2_HEAD_TRUNCATED = 2		/* some of the text was left out, as the flags allow */
};

typedef struct g2_completion
{
	uint32_t	finish;			/* g2_finish */
	double		logprob;		/* sum over the new tokens, natural log */
	uint32_t	n_ids;			/* new tokens, the end token or that which completed a stop too */
	const char *ids;			/* n_ids u32, unaligned */
	g2_span		text;			/* valid UTF-8, no NUL */
} g2_completion;

/* One new token.  The pieces of all of them put together are the completion's text: bytes that may
 * begin a stop string or an unfinished character come with a later token, at last with that which
 * ends the sequence. */
typedef struct g2_stream
{
	uint32_t	pos;			/* from 0 */
	uint32_t	token;
	double		logprob;
	g2_span		piece;			/* valid UTF-8, no NUL; may be empty */
} g2_stream;

/* ---- tokens ---- */

typedef struct g2_tokenize
{
	g2_span		model;
	g2_span		text;
	uint32_t	count_only;		/* 1: TOKENS holds the number alone */
	uint32_t	current_user;	/* OID, for models that only some roles may use */
} g2_tokenize;

typedef struct g2_tokens
{
	uint32_t	count;
	const char *ids;			/* count u32, unaligned; NULL when only counted */
} g2_tokens;

typedef struct g2_detokenize
{
	g2_span		model;
	uint32_t	count;
	const char *ids;
	uint32_t	current_user;	/* OID */
} g2_detokenize;

/* ---- models ---- */

typedef struct g2_load
{
	g2_span		model;
	g2_span		format;			/* empty = the setting */
	g2_span		device;
} g2_load;

/* encode: appends the payload.  decode: false when it is malformed; spans point into it. */
extern void g2_hello_encode(g2_writer *w, const g2_hello *m);
extern bool g2_hello_decode(const void *p, size_t n, g2_hello *m);
extern void g2_welcome_encode(g2_writer *w, const g2_welcome *m);
extern bool g2_welcome_decode(const void *p, size_t n, g2_welcome *m);
extern void g2_session_message_encode(g2_writer *w, const g2_session_message *m);
extern bool g2_session_message_decode(const void *p, size_t n, g2_session_message *m);
extern void g2_access_encode(g2_writer *w, const g2_access *m);
extern bool g2_access_decode(const void *p, size_t n, g2_access *m);
/* Both are the same role, as far as these say; two that belong to none are not. */
extern bool g2_owner_same(const g2_owner *a, const g2_owner *b);
extern void g2_owner_put(g2_writer *w, const g2_owner *m);
extern g2_owner g2_owner_get(g2_reader *r);

extern void g2_roles_encode(g2_writer *w, const g2_roles *m);
extern bool g2_roles_decode(const void *p, size_t n, g2_roles *m);
extern void g2_error_encode(g2_writer *w, const char *sqlstate, const char *message,
							const char *detail, const char *hint, bool of_options);
extern bool g2_error_decode(const void *p, size_t n, g2_error_message *m);
extern void g2_notice_encode(g2_writer *w, g2_level level, const char *message, const char *hint);
extern bool g2_notice_decode(const void *p, size_t n, g2_notice *m);
extern void g2_generate_encode(g2_writer *w, const g2_generate *m);
extern bool g2_generate_decode(const void *p, size_t n, g2_generate *m);
extern void g2_completions_head_encode(g2_writer *w, const g2_completions_head *m);
extern void g2_completions_head_get(g2_reader *r, g2_completions_head *m);
extern void g2_completion_encode(g2_writer *w, const g2_completion *m);
extern void g2_completion_get(g2_reader *r, g2_completion *m);	/* look at r->failed after */
extern void g2_stream_encode(g2_writer *w, const g2_stream *m);
extern bool g2_stream_decode(const void *p, size_t n, g2_stream *m);
extern void g2_tokenize_encode(g2_writer *w, const g2_tokenize *m);
extern bool g2_tokenize_decode(const void *p, size_t n, g2_tokenize *m);
extern void g2_tokens_encode(g2_writer *w, uint32_t count, const uint32_t *ids);
extern bool g2_tokens_decode(const void *p, size_t n, g2_tokens *m);
extern void g2_detokenize_encode(g2_writer *w, g2_span model, uint32_t count, const uint32_t *ids,
								 uint32_t current_user);
extern bool g2_detokenize_decode(const void *p, size_t n, g2_detokenize *m);
extern void g2_load_encode(g2_writer *w, const g2_load *m);
extern bool g2_load_decode(const void *p, size_t n, g2_load *m);

/* A span of a C string. */
extern g2_span g2_span_of(const char *s);
extern bool g2_span_is(g2_span span, const char *s);

#endif							/* G2_PROTOCOL_H */
