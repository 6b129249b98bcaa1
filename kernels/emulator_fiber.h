/*
 * emulator_fiber.h: fibers for emulator.cpp, which alone includes it: a stack each, and the switch from
 * one to another.  A few instructions of its own on x86-64; ucontext elsewhere, and under
 * AddressSanitizer, which has to be told of each switch.
 */
#ifndef EMULATOR_FIBER_H
#define EMULATOR_FIBER_H

#include <stddef.h>
#include <ucontext.h>

#if defined(__SANITIZE_ADDRESS__)
#define EMU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define EMU_ASAN 1
#endif
#endif
#ifdef EMU_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace
{

const size_t stack_bytes = 64 << 10;

#if defined(__x86_64__) && !defined(EMU_ASAN)

/* Saves the callee's registers on the stack that is left, and takes those of the other. */
extern "C" void emu_switch(void **from, void *to);
asm(".text\n"
	".type emu_switch, @function\n"
	"emu_switch:\n"
	"	pushq %rbp\n	pushq %rbx\n	pushq %r12\n	pushq %r13\n	pushq %r14\n	pushq %r15\n"
	"	movq %rsp, (%rdi)\n"
	"	movq %rsi, %rsp\n"
	"	popq %r15\n	popq %r14\n	popq %r13\n	popq %r12\n	popq %rbx\n	popq %rbp\n"
	"	ret\n"
	".size emu_switch, .-emu_switch\n");

struct context
{
	void	   *at;

	void
	start(char *stack, void (*entry) ())
	{
		void	  **top = reinterpret_cast<void **>(stack + stack_bytes - 64);

		*--top = nullptr;		/* where entry would return to; keeps calls aligned */
		*--top = reinterpret_cast<void *>(entry);
		for (int i = 0; i < 6; i++)
			*--top = nullptr;
		at = top;
	}

	void
	go(context *to, const void *, const void *)
	{
		emu_switch(&at, to->at);
	}

	static void
	arrived() {}
};

#else

struct context
{
	ucontext_t	at;
	void	   *fake = nullptr;

	void
	start(char *stack, void (*entry) ())
	{
		getcontext(&at);
		at.uc_stack.ss_sp = stack;
		at.uc_stack.ss_size = stack_bytes;
		at.uc_link = nullptr;
		makecontext(&at, entry, 0);
	}

	/* to_stack: lowest address of the other's stack, NULL for the system's own. */
	void
	go(context *to, const void *to_stack, const void *system_stack)
	{
#ifdef EMU_ASAN
		__sanitizer_start_switch_fiber(&fake, to_stack ? to_stack : system_stack,
									   to_stack ? stack_bytes : system_bytes);
#endif
		(void) to_stack;
		(void) system_stack;
		swapcontext(&at, &to->at);
#ifdef EMU_ASAN
		__sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
	}

	static thread_local const void *system_base;
	static thread_local size_t system_bytes;

	/* The first thing that a new fiber does. */
	static void
	arrived()
	{
#ifdef EMU_ASAN
		__sanitizer_finish_switch_fiber(nullptr, &system_base, &system_bytes);
#endif
	}
};

thread_local const void *context::system_base;
thread_local size_t context::system_bytes;

#endif

const void *
system_stack()
{
#ifdef EMU_ASAN
	return context::system_base;
#else
	return nullptr;
#endif
}

}								/* namespace */

#endif							/* EMULATOR_FIBER_H */
