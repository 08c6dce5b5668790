// SPDX-License-Identifier: GPL-2.0
/*
 * The debug port of the emulated host (Documentation/host.rst) as a file, for
 * tests: programs can't access I/O ports in this kernel. Writing "COMMAND
 * OPERAND", both hexadecimal, to vtl_debug_port in debugfs requests an action
 * of the host; reading the file returns the answer and how many runs are still
 * to be preempted.
 */
#include <linux/debugfs.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/uaccess.h>
#include <asm/io.h>

#define PORT_OPERAND 0xec
#define PORT_COMMAND 0xed

static DEFINE_MUTEX(port_lock);
static struct dentry *port_file;
static u8 answer, runs_left;

static ssize_t port_write(struct file *file, const char __user *from,
			  size_t size, loff_t *offset)
{
	char text[64] = {};
	unsigned int command;
	u64 operand;
	int shift;

	if (size >= sizeof(text))
		return -EINVAL;
	if (copy_from_user(text, from, size))
		return -EFAULT;
	if (sscanf(text, "%x %llx", &command, &operand) != 2 || command > 0xff)
		return -EINVAL;
	mutex_lock(&port_lock);
	for (shift = 56; shift >= 0; shift -= 8)
		outb(operand >> shift, PORT_OPERAND);
	outb(command, PORT_COMMAND);
	answer = inb(PORT_COMMAND);
	runs_left = inb(PORT_OPERAND);
	mutex_unlock(&port_lock);
	return size;
}

static ssize_t port_read(struct file *file, char __user *to, size_t size,
			 loff_t *offset)
{
	char text[32];
	int length;

	mutex_lock(&port_lock);
	length = scnprintf(text, sizeof(text), "%x %x\n", answer, runs_left);
	mutex_unlock(&port_lock);
	return simple_read_from_buffer(to, size, offset, text, length);
}

static const struct file_operations port_operations = {
	.owner = THIS_MODULE,
	.write = port_write,
	.read = port_read,
};

static int __init port_init(void)
{
	port_file = debugfs_create_file("vtl_debug_port", 0600, NULL, NULL,
					&port_operations);
	return PTR_ERR_OR_ZERO(port_file);
}
module_init(port_init);

static void __exit port_exit(void)
{
	debugfs_remove(port_file);
}
module_exit(port_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Debug port of the emulated host, for tests");
