// SPDX-License-Identifier: GPL-2.0-only
/* A module that has the kernel warn when it is loaded: what a test's verdict must not miss. */
#include <linux/bug.h>
#include <linux/module.h>

static int __init complaining_init(void)
{
	WARN(1, "complaining: loaded\n");
	return 0;
}
module_init(complaining_init);

static void __exit complaining_exit(void)
{
}
module_exit(complaining_exit);

MODULE_DESCRIPTION("Warns when it is loaded");
MODULE_LICENSE("GPL");
