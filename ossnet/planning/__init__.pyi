from .peak import measure as measure, predict as predict
