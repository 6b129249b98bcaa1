/*
 * protocol.h: what backends, supervisor and engine say to each other.  The only header of the
 * engine that the PostgreSQL side includes; protocol.c and protocol_io.c are
 * compiled into both.
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
#define G2_MAX_SEQUENCES 256		/* n of one request */
#define G2_MAX_NEW_TOKENS (1u << 20)
#define G2_MAX_IN_FLIGHT 4096		/* requests of one connection */

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
} g2_session_message;

/* The current user is a member of what `roles` named; forgotten with the next SESSION. */
typedef struct g2_access
{
	g2_span		model;
	uint32_t	current_user;	/* OID */
	uint64_t	token;			/* of g2_roles */
} g2_access;

/* ---- answers ---- */

#define G2_MAX_ROLES 256		/* of one model */

typedef struct g2_roles
{
	uint64_t	token;			/* of this list of roles; never 0 */
	uint32_t	n;
	g2_span		roles[G2_MAX_ROLES];	/* names */
} g2_roles;

typedef struct g2_error_message
{
	char		sqlstate[6];
	g2_span		message;
	g2_span		detail;			/* empty = none */
	g2_span		hint;
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
	G2_GEN_NO_CACHE = 64		/* neither reads nor fills prefix and result caches */
};

typedef struct g2_generate
{
	g2_span		model;			/* name */
	g2_span		prompt;
	uint32_t	max_new;		/* new tokens at most; 0 = 22023 */
	uint32_t	n;				/* sequences, 1 .. G2_MAX_SEQUENCES */
	uint32_t	flags;
	double		temperature;	/* 0 = greedy (n = 1 only) */
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
	uint32_t	result_hit;		/* 1: the answer comes from the result cache */
} g2_completions_head;

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

typedef enum g2_model_state
{
	G2_MODEL_LOADING = 1, G2_MODEL_LOADED, G2_MODEL_FAILED
} g2_model_state;

typedef struct g2_model_row
{
	g2_span		name;
	uint32_t	state;			/* g2_model_state */
	uint32_t	percent;		/* while loading */
	g2_span		architecture;
	uint64_t	parameters;
	uint32_t	context_length;
	uint32_t	vocab_size;
	g2_span		tokenizer;
	g2_span		format;
	g2_span		device;
	uint64_t	bytes;			/* of the pack */
	g2_span		content_hash;
	g2_span		error;
	int64_t		loaded_at;		/* microseconds since 1970, 0 = never */
	int64_t		last_used_at;
	uint32_t	n_roles;
	g2_span		roles[G2_MAX_ROLES];
	uint32_t	restricted;		/* 1: for members of `roles` only, where there are none for superusers;
								 * 0: for everybody */
} g2_model_row;

typedef struct g2_info
{
	g2_span		version;
	g2_span		arithmetic;
	g2_span		isa;
	g2_span		blas;			/* empty: none */
	g2_span		cuda_device;
	g2_span		cuda_driver;
	uint32_t	threads;
	uint32_t	supervisor_pid;
	uint32_t	engine_pid;
	int64_t		started_at;		/* microseconds since 1970 */
	/* counters of what is alive, for tests and monitoring */
	uint32_t	live_requests;
	uint32_t	live_sequences;
	uint64_t	kv_blocks_used;
	uint64_t	kv_blocks_total;
	uint32_t	restart_pending;	/* 1: the installed engine is newer than this process */
} g2_info;

/* ---- watching ---- */

typedef enum g2_request_state
{
	G2_STATE_LOADING = 1,		/* its model is being loaded */
	G2_STATE_QUEUED,			/* waits for room */
	G2_STATE_THROTTLED,			/* waits because of a limit of its role */
	G2_STATE_PREFILL, G2_STATE_DECODE
} g2_request_state;

/* One sequence that is alive; a request that is not tokenized yet is one sequence. */
typedef struct g2_request_row
{
	uint32_t	pid;			/* the backend's */
	uint32_t	session_user;	/* OID */
	uint32_t	database;		/* OID */
	g2_span		model;
	uint32_t	state;			/* g2_request_state */
	uint32_t	sequence;		/* index in its request */
	uint32_t	prompt_tokens;
	uint32_t	generated_tokens;
	uint32_t	max_len;
	int64_t		queued_at;		/* microseconds since 1970 */
	int64_t		started_at;		/* 0 = not yet */
} g2_request_row;

/* Counters of a month, role, database and model. */
typedef struct g2_usage_row
{
	uint32_t	month;			/* UTC: year * 12 + month - 1 */
	uint32_t	role;			/* OID of the session user */
	uint32_t	database;		/* OID */
	g2_span		model;
	uint64_t	calls;			/* GENERATE requests that were answered or failed */
	uint64_t	sequences;
	uint64_t	prompt_tokens;
	uint64_t	cached_tokens;	/* of these, found in the prefix cache */
	uint64_t	completion_tokens;
	uint64_t	result_hits;
	uint64_t	truncated;		/* prompts cut because of the option */
	uint64_t	errors;
	uint64_t	cancelled;
	uint64_t	queue_us;
	uint64_t	compute_us;		/* share of the device's time */
	double		cost;			/* compute time times the price of that time */
} g2_usage_row;

/* A loaded model at work; counters since it was loaded. */
typedef struct g2_engine_row
{
	g2_span		model;
	g2_span		format;
	uint64_t	steps;
	uint64_t	step_sequences;	/* sum over the steps of the sequences in them that got a token */
	uint64_t	prompt_tokens;	/* computed, those from the cache not counted */
	uint64_t	completion_tokens;
	uint64_t	busy_us;
	double		tokens_per_second;	/* new tokens, over the last 10 s */
	uint64_t	kv_blocks_used;
	uint64_t	kv_blocks_cached;	/* hold a prefix that nobody uses now */
	uint64_t	kv_blocks_total;
	uint64_t	prefix_asked;	/* prompt tokens that could have been found in the prefix cache */
	uint64_t	prefix_hits;	/* that were */
	uint64_t	preemptions;
	uint32_t	running;		/* sequences */
	uint32_t	queued;
	uint64_t	bytes;			/* of the pack and the KV blocks that hold something */
} g2_engine_row;

/*
 * The saved counters, G2_USAGE_FILE's contents: a header, then the payload of USAGE_LIST.  Written
 * under another name, fsynced and renamed.  A file of another version, of another cluster or
 * timeline, or with a wrong checksum counts as none.
 */
#define G2_USAGE_FILE "pg_stat/gpt2.stat"
#define G2_USAGE_MAGIC 0x55325047u	/* "GP2U" */
#define G2_USAGE_VERSION 1
#define G2_MAX_USAGE_FILE (16u << 20)	/* bytes */

typedef struct g2_usage_header
{
	uint32_t	magic;
	uint32_t	version;
	uint64_t	system_identifier;
	uint32_t	timeline;
	uint32_t	length;			/* of the payload */
	uint64_t	checksum;		/* FNV-1a of the payload */
} g2_usage_header;

/* ---- settings (control channel) ---- */

#define G2_MAX_DIRECTORIES 16
#define G2_MAX_PRELOAD 64		/* models of gpt2.preload_models */

/* Instruction sets (kernels.h). */
#define G2_CPU_NAMES \
	"auto", "portable", "avx2", "avxvnni", "avx512", "avx512vnni", "avx512bf16"

typedef struct g2_settings
{
	uint32_t	n_directories;
	g2_span		directories[G2_MAX_DIRECTORIES];	/* gpt2.model_path, resolved */
	g2_span		pack_directory;
	g2_span		weight_format;
	g2_span		device;			/* "auto", "cpu" */
	g2_span		cpu;			/* one of G2_CPU_NAMES */
	uint32_t	threads;		/* 0 = physical cores allowed to the process */
	uint64_t	kv_cache_size;	/* bytes; 0 = min(1 GB, 1/8 of the memory) */
	uint64_t	keep_free;		/* bytes that packing leaves free on the file system */
	uint32_t	disabled;		/* 1: gpt2.enabled is off: all requests end with 57014 */
	uint32_t	nice;			/* of the compute threads, 0 .. 19 */
	uint32_t	step_tokens;	/* rows of one step at most; 0 = automatic */
	uint64_t	model_memory;	/* bytes of all loaded models; 0 = no limit */
	uint64_t	result_cache_size;	/* bytes; G2_NO_RESULT_CACHE = none, 0 = the default, 64 MB */
	uint32_t	idle_timeout_s;	/* without requests, after which the engine ends; 0 = never */
	double		price_per_hour;	/* of compute time */
	uint32_t	n_preload;
	g2_span		preload[G2_MAX_PRELOAD];	/* names */
	int64_t		limits[G2_N_LIMITS];	/* of roles for which nothing is set; G2_UNLIMITED */
	uint64_t	system_identifier;	/* of the cluster, for saved counters; 0 = keep none */
	uint32_t	timeline;
	uint32_t	max_queued;		/* requests that are not answered yet; 0 = the default */
	uint32_t	has_limits;		/* 1: limits[] counts; 0: all are unlimited */
} g2_settings;

#define G2_NO_RESULT_CACHE UINT64_MAX

/* encode: appends the payload.  decode: false when it is malformed; spans point into it. */
extern void g2_hello_encode(g2_writer *w, const g2_hello *m);
extern bool g2_hello_decode(const void *p, size_t n, g2_hello *m);
extern void g2_welcome_encode(g2_writer *w, const g2_welcome *m);
extern bool g2_welcome_decode(const void *p, size_t n, g2_welcome *m);
extern void g2_session_message_encode(g2_writer *w, const g2_session_message *m);
extern bool g2_session_message_decode(const void *p, size_t n, g2_session_message *m);
extern void g2_access_encode(g2_writer *w, const g2_access *m);
extern bool g2_access_decode(const void *p, size_t n, g2_access *m);
extern void g2_roles_encode(g2_writer *w, const g2_roles *m);
extern bool g2_roles_decode(const void *p, size_t n, g2_roles *m);
extern void g2_error_encode(g2_writer *w, const char *sqlstate, const char *message,
							const char *detail, const char *hint);
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
extern void g2_model_row_encode(g2_writer *w, const g2_model_row *m);
extern void g2_model_row_get(g2_reader *r, g2_model_row *m);
extern void g2_info_encode(g2_writer *w, const g2_info *m);
extern bool g2_info_decode(const void *p, size_t n, g2_info *m);
/* protocol_watch.c; rows: look at r->failed after get. */
extern void g2_request_row_encode(g2_writer *w, const g2_request_row *m);
extern void g2_request_row_get(g2_reader *r, g2_request_row *m);
extern void g2_usage_row_encode(g2_writer *w, const g2_usage_row *m);
extern void g2_usage_row_get(g2_reader *r, g2_usage_row *m);
extern void g2_engine_row_encode(g2_writer *w, const g2_engine_row *m);
extern void g2_engine_row_get(g2_reader *r, g2_engine_row *m);
/* The payload in the contents of a file of saved counters; false where they count as none
 * (system_identifier and timeline must be the cluster's). */
extern bool g2_usage_file_check(const void *data, size_t n, uint64_t system_identifier,
								uint32_t timeline, g2_span *payload);
/* The header for this payload. */
extern g2_usage_header g2_usage_file_header(uint64_t system_identifier, uint32_t timeline,
											const void *payload, size_t n);
extern void g2_settings_encode(g2_writer *w, const g2_settings *m);
extern bool g2_settings_decode(const void *p, size_t n, g2_settings *m);

/* A span of a C string. */
extern g2_span g2_span_of(const char *s);

#endif							/* G2_PROTOCOL_H */
