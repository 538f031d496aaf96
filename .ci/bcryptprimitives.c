/* The one function of bcryptprimitives.dll that Go programs need to start, for a wine before 9.0,
   which has no such library. */
#include <windows.h>
#include <ntsecapi.h>

BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T size)
{
	while (size > 0) {
		ULONG n = size < 0x10000000 ? (ULONG)size : 0x10000000;
		if (!RtlGenRandom(data, n))
			return FALSE;
		data += n;
		size -= n;
	}
	return TRUE;
}
