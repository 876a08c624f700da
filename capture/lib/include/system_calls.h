/* System call numbers: in $v0, arguments in $a0 to $a3, results in $v0 and $v1. */
#ifndef SYSTEM_CALLS_H
#define SYSTEM_CALLS_H

#define CALL_EXIT 1        /* (status): ends the run */
#define CALL_WRITE 2       /* (text, bytes): console */
#define CALL_MAP 3         /* (bytes): address of reserved demand-zero pages, or 0 */
#define CALL_UNMAP 4       /* (address, bytes): 1, or 0 for a bad range */
#define CALL_START 5       /* (entry, function, argument): 1, or 0 if threads run already */
#define CALL_JOIN 6        /* (): returns when the started threads have finished */
#define CALL_THREAD_EXIT 7 /* (): ends a started thread */
#define CALL_SLEEP 8       /* (address, expected): sleeps while the word has that value */
#define CALL_WAKE 9        /* (address): wakes all sleepers, returns how many */
#define CALL_CLOCK 10      /* (): Count as 64 bits, low word in $v0 */
#define CALL_INFO 11       /* (which): one of the below */
#define CALL_PROCESS 12    /* (name): number of a new process, 0 in it, ~0 if there is no room */
#define CALL_WAIT 13       /* (number): 1 and the status of a child that ended, or 0 */
#define CALL_PHASE 14      /* (phase): what this process does, 0 for nothing in particular */
#define CALL_SEAL 15       /* (address, bytes): 1 when they are read-only, 0 for a bad range */
#define CALL_CLEAN 16      /* (address, bytes): 1 when stores fault again, 0 for a bad range */
#define CALL_OPEN 17       /* (name): handle of a file, or ~0 */
#define CALL_CLOSE 18      /* (handle): 1, or 0 for a bad handle */
#define CALL_SIZE 19       /* (handle): bytes, or ~0 */
#define CALL_READ 20       /* (handle, offset, buffer, bytes): bytes read, or ~0 */
#define CALL_WRITE_FILE 21 /* (handle, offset, buffer, bytes): bytes written, or ~0 */
#define CALL_MAP_FILE 22   /* (handle, offset, bytes): address, or 0 */
#define CALL_SYNC 23       /* (): pages written to the disk */
#define CALL_SEND 24       /* (port, address, message, bytes): 1, or 0 if refused */
#define CALL_RECEIVE 25    /* (port, buffer, bytes): length and sender's address, or ~0 */
#define CALL_ADDRESS 26    /* (port): its address or ~0; 1 if it is on a subnet of machines */

#define INFO_CPUS 0
#define INFO_NODES 1
#define INFO_NODE 2 /* of the calling CPU */
#define INFO_TICKS 3   /* timer interrupts taken by the calling CPU */
#define INFO_PROCESS 4 /* number of the calling process */

#endif
