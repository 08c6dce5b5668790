// SPDX-License-Identifier: GPL-2.0
/*
 * Where the list of the lower VTLs' memory comes from: the parameter vtl0_mem=,
 * or else the same word of the kernel's own command line.
 *
 * Stays C: a text parameter that counts as a hardware parameter, and a private
 * mount of procfs.
 */
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/mount.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "helpers.h"

static char vtl_list[VTL_TEXT_BYTES];
static bool vtl_is_given;

static int vtl_list_set(const char *text, const struct kernel_param *param)
{
	if (strscpy(vtl_list, text, sizeof(vtl_list)) < 0) {
		pr_err("mshv_vtl_tdx: not loaded: vtl0_mem= is too long\n");
		return -EINVAL;
	}
	vtl_is_given = true;
	return 0;
}

static int vtl_list_get(char *buffer, const struct kernel_param *param)
{
	return vtl_ranges_show(buffer);
}

static const struct kernel_param_ops vtl_list_ops = {
	.set = vtl_list_set,
	.get = vtl_list_get,
};

/*
 * A hardware parameter: a kernel in lockdown does not accept it from whoever
 * loads the module. Then the kernel's command line names the memory; it can't
 * be changed after boot, and is measured in a TD.
 */
__module_param_call(MODULE_PARAM_PREFIX, vtl0_mem, &vtl_list_ops, NULL, 0444,
		    -1, KERNEL_PARAM_FL_HWPARAM);
__MODULE_PARM_TYPE(vtl0_mem, "charp");
MODULE_PARM_DESC(
	vtl0_mem,
	"Memory of the lower VTLs: START,LENGTH[,START,LENGTH...] [default: vtl0_mem= of the kernel command line]");

/* Copies the parameter; returns its length, or -ENOENT if it was not given. */
int vtl_list_given(char *text)
{
	return vtl_is_given ? strscpy(text, vtl_list, VTL_TEXT_BYTES) : -ENOENT;
}

/*
 * Reads the command line of the kernel, which is only available as a file. The
 * file comes from a procfs mounted just for this, so that no mount of userspace
 * can replace it. Returns its length.
 */
int vtl_command_line(char *text)
{
	struct file_system_type *type = get_fs_type("proc");
	struct vfsmount *mount;
	struct file *file;
	struct path root;
	loff_t offset = 0;
	ssize_t length;

	if (!type)
		return -ENOENT;
	mount = kern_mount(type);
	module_put(type->owner);
	if (IS_ERR(mount))
		return PTR_ERR(mount);
	root.mnt = mount;
	root.dentry = mount->mnt_root;
	file = file_open_root(&root, "cmdline", O_RDONLY, 0);
	if (IS_ERR(file)) {
		length = PTR_ERR(file);
	} else {
		length = kernel_read(file, text, VTL_TEXT_BYTES, &offset);
		fput(file);
	}
	kern_unmount(mount);
	return length;
}
