/*
 * For the static binary alone: names are looked up in files and by DNS, and nowhere else.
 *
 * glibc has both of these built in. Whatever else /etc/nsswitch.conf names (resolve, myhostname, mdns, sss) it would load
 * as a shared library, and with it that machine's own libc, whose inner layout is only right for a binary of that very
 * version. So the file is not asked. A machine of systemd-resolved is reached all the same: it answers DNS.
 *
 * C, because the library has no unsafe code and the C library no safe way to say this; before main, because the first
 * look-up settles it.
 */
#include <nss.h>

__attribute__((constructor)) static void name_services(void)
{
    __nss_configure_lookup("hosts", "files dns");
    __nss_configure_lookup("passwd", "files");
    __nss_configure_lookup("group", "files");
    __nss_configure_lookup("services", "files");
}
