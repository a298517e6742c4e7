/* A trivial MPI program: every rank adds its number, and the first one appends the count and the sum to a file. */
#include <mpi.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    int rank, size, sum = 0;
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (rank == 0) {
        FILE *file = fopen(argv[1], "a");
        fprintf(file, "%s %d %d\n", argv[2], size, sum);
        fclose(file);
    }
    MPI_Finalize();
    return 0;
}
