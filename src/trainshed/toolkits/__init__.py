"""How each framework's job becomes processes. Pure: a job and its gang's hosts in, a launch plan out."""
