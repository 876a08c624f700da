/* Ends with exit status 7: tests that a status reaches whoever captured. */
#include "libos.h"

int main(int argc, char **argv) {
  arguments_parse(argc, argv, NULL, 0);
  return 7;
}
