# Kept in git: Terraform keeps no secret to compare with, so a change of these numbers is what writes them anew.
passwords_revision   = 1
credentials_revision = 1
