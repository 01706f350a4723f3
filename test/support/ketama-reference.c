/*
 * Which node libmemcached gives each key to. Nodes are arguments, host and port by turns; keys are lines on the standard
 * input; the places of their nodes are lines on the standard output.
 *
 *   gcc -o ketama-reference ketama-reference.c -lmemcached
 *   printf 'cart:1\ncart:2\n' | ./ketama-reference cache-1 11211 cache-2 11211
 */
#include <libmemcached/memcached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
  memcached_st *client = memcached_create(NULL);
  /* Without WEIGHTED, libmemcached hashes otherwise, with 100 points for each node. */
  if (memcached_behavior_set(client, MEMCACHED_BEHAVIOR_KETAMA_WEIGHTED, 1) != MEMCACHED_SUCCESS) return 1;
  /* All at once: the ring is built anew whenever nodes are added. */
  memcached_server_st *nodes = NULL;
  for (int i = 1; i + 1 < argc; i += 2) {
    memcached_return_t result;
    nodes = memcached_server_list_append(nodes, argv[i], (in_port_t)atoi(argv[i + 1]), &result);
    if (result != MEMCACHED_SUCCESS) return 1;
  }
  if (memcached_server_push(client, nodes) != MEMCACHED_SUCCESS) return 1;
  memcached_server_list_free(nodes);
  char line[512];
  while (fgets(line, sizeof line, stdin)) {
    line[strcspn(line, "\n")] = '\0';
    printf("%u\n", memcached_generate_hash(client, line, strlen(line)));
  }
  memcached_free(client);
  return 0;
}
