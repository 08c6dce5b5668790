// SPDX-License-Identifier: GPL-2.0
/*
 * `vtlctl top` on a terminal: it shows what the virtual processors do, ends
 * when it is asked to, and leaves the terminal as it was.
 */
#include <poll.h>
#include <pty.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "vtl_harness.h"

/* Enough for some screens of 80 by 24 characters with their colours. */
#define OUTPUT_MAX (256 * 1024)

FIXTURE(top)
{
	int pty;
	pid_t pid;
	struct termios before;
	size_t len;
	char output[OUTPUT_MAX + 1];
};

FIXTURE_SETUP(top)
{
	struct winsize size = { .ws_row = 24, .ws_col = 80 };

	if (system("command -v vtlctl >/dev/null"))
		SKIP(return, "no vtlctl in PATH");
	/* The initramfs of a TD has no file system of terminals mounted. */
	if (access("/dev/pts/ptmx", F_OK)) {
		mkdir("/dev/pts", 0755);
		ASSERT_EQ(0, mount("devpts", "/dev/pts", "devpts", 0, NULL));
	}
	self->pid = forkpty(&self->pty, NULL, NULL, &size);
	ASSERT_LE(0, self->pid);
	if (!self->pid) {
		/* Waits until the other side has noted the terminal's modes. */
		raise(SIGSTOP);
		execlp("vtlctl", "vtlctl", "top", "--interval", "1", NULL);
		_exit(127);
	}
	ASSERT_EQ(self->pid, waitpid(self->pid, NULL, WUNTRACED));
	ASSERT_EQ(0, tcgetattr(self->pty, &self->before));
	ASSERT_EQ(0, kill(self->pid, SIGCONT));
}

FIXTURE_TEARDOWN(top)
{
	if (self->pid > 0)
		kill(self->pid, SIGKILL);
	close(self->pty);
}

/* Adds what comes from the terminal; 0 when nothing comes any more. */
static int more(FIXTURE_DATA(top) * self, int ms)
{
	struct pollfd pty = { .fd = self->pty, .events = POLLIN };
	ssize_t n;

	if (self->len == OUTPUT_MAX || poll(&pty, 1, ms) <= 0)
		return 0;
	n = read(self->pty, self->output + self->len, OUTPUT_MAX - self->len);
	if (n <= 0)
		return 0;
	self->len += n;
	self->output[self->len] = '\0';
	return 1;
}

static int shows(FIXTURE_DATA(top) * self, const char *text)
{
	do {
		/* A terminal's output may hold zero bytes. */
		if (memmem(self->output, self->len, text, strlen(text)))
			return 1;
	} while (more(self, 20000));
	return 0;
}

TEST_F(top, virtual_processors_are_shown_until_a_key_ends_it)
{
	struct termios after;
	int status;

	/* ratatui writes only what changes: these words stand in one piece. */
	EXPECT_TRUE(shows(self, "exits/s, by count, running"));
	EXPECT_TRUE(shows(self, "VTL switches/s"));
	ASSERT_EQ(0, tcgetattr(self->pty, &after));
	EXPECT_EQ(0, after.c_lflag & (ICANON | ECHO));
	ASSERT_EQ(1, write(self->pty, "p", 1));
	EXPECT_TRUE(shows(self, "paused"));
	ASSERT_EQ(1, write(self->pty, "q", 1));
	while (more(self, 20000))
		;
	ASSERT_EQ(self->pid, waitpid(self->pid, &status, 0));
	self->pid = 0;
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	ASSERT_EQ(0, tcgetattr(self->pty, &after));
	EXPECT_EQ(self->before.c_lflag, after.c_lflag);
	EXPECT_EQ(self->before.c_iflag, after.c_iflag);
}

TEST(without_a_terminal_it_says_what_to_use)
{
	ASSERT_EQ(
		0,
		system("vtlctl top </dev/null >/tmp/top.out 2>&1; "
		       "test $? = 2 && grep -q 'stats --watch' /tmp/top.out"));
	unlink("/tmp/top.out");
}

TEST_HARNESS_MAIN
